from __future__ import annotations

from html.parser import HTMLParser

from sphisto._facts import as_html, as_text, some


class Cells(HTMLParser):
    """Texts of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts, self.tags, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def test_facts_stand_on_lines_of_their_own():
    assert as_text("A", {"one": "1", "three": "3"}) == "A\n  one    1\n  three  3"
    assert as_text("A", {}) == "A"


def test_names_are_text_in_a_page_whatever_they_hold():
    page = Cells(as_html("Section '<b>'", {"<i>&": "H<sub>2</sub> \"O\" & 'more' <script>alert(1)</script>"}))
    assert page.texts == ["Section '<b>'", "<i>&", "H<sub>2</sub> \"O\" & 'more' <script>alert(1)</script>"]
    assert set(page.tags) == {"div", "strong", "table", "tr", "th", "td"}
    assert set(page.attributes) == {"scope", "style"}  # nothing is fetched, no colour is set
    assert "color" not in as_html("A", {"a": "b"})


def test_long_lists_are_cut():
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b, ... (3 in all)"
