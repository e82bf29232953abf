"""A report, opened in Chromium from disk: what is seen, what is under the cursor, what keys and clicks do."""

from __future__ import annotations

import base64
import io
import re
import shutil
import statistics
import time
from typing import NamedTuple

import numpy as np
import pytest
import spatialdata as sd
from PIL import Image

from sphisto import get, pl

driver = pytest.importorskip("playwright.sync_api", reason="the group `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
GENES = ["class1_a", "nuclei_a", "gradient_a", "noise_a"]
READOUT = re.compile(
    r"x (?P<x>[\d,.]+) \u00b5m, y (?P<y>[\d,.]+) \u00b5m \(column (?P<column>\d+), row (?P<row>\d+)\)\n"
    r"(?:(?P<gene>\S+) (?P<value>\S+)(?: \u00b1 (?P<sd>\S+))? counts per spot area|(?P<none>outside tissue))"
)


@pytest.fixture(scope="module")
def browser():
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield started
        started.close()


class Opened(NamedTuple):
    """A page with what it asked for and what went wrong in it."""

    page: object
    asked: list
    faults: list


@pytest.fixture
def opened(browser):
    """Open a report, and see that nothing goes wrong in it and nothing is asked for outside of it."""
    pages = []

    def open_report(path, *, width=1280, height=800, theme="light", bypass_csp=False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            bypass_csp=bypass_csp,
            reduced_motion="reduce",
        )
        found = Opened(context.new_page(), [], [])
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("pageerror", lambda error: found.faults.append(str(error)))
        found.page.on("console", lambda message: found.faults.append(message.text))
        found.page.on("dialog", lambda dialog: (found.faults.append(dialog.message), dialog.dismiss()))
        found.page.goto(path.as_uri())
        found.page.wait_for_selector("#canvas[data-painted]")
        pages.append((path, found))
        return found.page

    yield open_report
    for path, found in pages:
        assert found.faults == []
        assert [url for url in found.asked if url != path.as_uri() and not url.startswith("data:")] == []
        found.page.context.close()


@pytest.fixture
def report(store, tmp_path):
    return pl.report(store, tmp_path / "a.html", genes=GENES)


def settled(page):
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def picture(page):
    """(y, x, 3) colours of the canvas, without what lies over it."""
    settled(page)
    text = page.evaluate("document.getElementById('canvas').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).convert("RGB"), dtype=int)


def changes(page, act):
    """Whether the picture is another one after something was done."""
    before = picture(page)
    act()
    after = picture(page)
    return before.shape != after.shape or bool((before != after).any())


def painted(page, names):
    page.wait_for_selector(f'#canvas[data-painted="{names}"]')


def read(page, x, y):
    """What is told of a place of the canvas."""
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    return page.locator("#readout").inner_text()


def places(page, rng, n):
    """Places of the canvas, and in it, that nothing else lies over."""
    box = page.locator("#canvas").bounding_box()
    free = """([x, y]) => document.elementFromPoint(x, y)?.id === "canvas" """
    found = []
    while len(found) < n:
        x, y = int(rng.integers(1, box["width"] - 1)), int(rng.integers(1, box["height"] - 1))
        if page.evaluate(free, [box["x"] + x, box["y"] + y]):
            found.append((x, y))
    return found


def number(text):
    return float(text.replace(",", ""))


def half_of_the_last_digit(text):
    """By how much a value may differ from the digits in which it is shown."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


@pytest.mark.slow
def test_values_under_the_cursor_are_the_rasters(opened, report, store, rng):
    page = opened(report)
    exact = get.gene_raster(store, "class1_a")
    raster, um = exact.values[0], exact.attrs["um_per_px"]
    step = np.sqrt(np.nanmax(raster)) / 510
    for zoom in range(3):
        n_inside = 0
        for x, y in places(page, rng, 200):
            found = READOUT.match(read(page, x, y))
            if found is None:
                assert "outside the section" in page.locator("#readout").inner_text()
                continue
            row, column = int(found["row"]), int(found["column"])
            for at, told in ((row, found["y"]), (column, found["x"])):
                assert at * um - 0.06 <= number(told) <= (at + 1) * um + 0.06
            if found["none"]:
                assert np.isnan(raster[row, column])
                continue
            n_inside += 1
            assert found["gene"] == "class1_a"
            value, rounding = number(found["value"]), half_of_the_last_digit(found["value"])
            off = abs(np.sqrt(value) - np.sqrt(raster[row, column]))
            assert off <= step * 1.0001 + np.sqrt(value + rounding) - np.sqrt(value)
        assert n_inside > 50, zoom
        page.locator("#canvas").focus()
        for _ in range(4):
            page.keyboard.press("+")


def test_deviations_under_the_cursor_are_means_of_blocks(opened, report, store, rng):
    page = opened(report)
    fine = get.raster(store, "projection_sd").sel(c="class1_a").values
    blocks = fine.reshape(12, 8, 14, 8)
    with np.errstate(invalid="ignore"):
        means = np.nansum(blocks, axis=(1, 3)) / np.isfinite(blocks).sum(axis=(1, 3))
    step, seen = np.sqrt(np.nanmax(means)) / 510, 0
    for x, y in places(page, rng, 30):
        found = READOUT.match(read(page, x, y))
        if found and found["sd"]:
            sd_of, mean = number(found["sd"]), means[int(found["row"]) // 8, int(found["column"]) // 8]
            assert abs(np.sqrt(sd_of) - np.sqrt(mean)) <= step * 1.0001 + 1e-3 * np.sqrt(sd_of)
            seen += 1
    assert seen > 5


def test_colours_are_those_of_the_map_on_the_told_scale(opened, report, store, rng):
    import matplotlib as mpl

    page = opened(report)
    page.locator("#opacity").fill("100")
    for key in "io":
        page.keyboard.press(key)
    for _ in range(4):
        page.keyboard.press("+")
    top = number(page.locator("#top").input_value())
    colours, seen = picture(page), 0
    for x, y in places(page, rng, 60):
        found = READOUT.match(read(page, x, y))
        if found and found["value"]:
            expected = np.array(
                mpl.colormaps["viridis"](min(1, number(found["value"]) / top), bytes=True)[:3], dtype=int
            )
            off = np.abs(colours[y - 1 : y + 2, x - 1 : x + 2] - expected).max(axis=-1).min()
            assert off <= 4  # a step of the map
            seen += 1
    assert seen > 20


def test_keys_do_what_they_say(opened, report):
    page = opened(report)
    page.keyboard.press("]")
    painted(page, "nuclei_a")
    page.keyboard.press("[")
    painted(page, "class1_a")
    page.keyboard.press("[")
    painted(page, "noise_a")
    assert page.locator('#genes [aria-pressed="true"]').inner_text().startswith("noise_a")
    for key, box in {"s": "spots", "m": "split", "o": "outlined", "i": "image"}.items():
        was = page.locator(f"#{box}").is_checked()
        assert changes(page, lambda key=key: page.keyboard.press(key)), key
        assert page.locator(f"#{box}").is_checked() != was
        page.keyboard.press(key)
    whole = picture(page)
    for key in ("+", "-", "ArrowLeft", "ArrowUp"):
        assert changes(page, lambda key=key: page.keyboard.press(key)), key
    page.keyboard.press("0")
    assert (picture(page) == whole).all()
    page.keyboard.press("t")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("nuc")
    assert page.locator("#genes button").all_inner_texts()[0].startswith("nuclei_a")
    assert page.locator("#genes button").count() == 1
    page.keyboard.press("Enter")
    painted(page, "nuclei_a")


def test_wheel_and_drag_zoom_and_move(opened, report):
    page = opened(report)
    before = READOUT.match(read(page, 400, 300))
    page.mouse.wheel(0, -300)
    settled(page)
    after = READOUT.match(page.locator("#readout").inner_text())
    assert number(after["x"]) == pytest.approx(number(before["x"]), abs=0.2)  # what is under the cursor stays there
    assert number(after["y"]) == pytest.approx(number(before["y"]), abs=0.2)
    page.mouse.down()
    assert changes(page, lambda: page.mouse.move(600, 420))
    page.mouse.up()
    box = page.locator("#canvas").bounding_box()
    dragged = READOUT.match(read(page, 600 - box["x"], 420 - box["y"]))
    assert number(dragged["x"]) == pytest.approx(number(before["x"]), abs=0.2)
    for name in ("Zoom in", "Zoom out", "Whole section"):
        assert changes(page, page.get_by_role("button", name=name).click), name


def test_panes_are_linked(opened, report, fitted):
    page = opened(report)
    page.get_by_label("Measured beside projected").check()
    settled(page)
    assert page.locator("#pane-names").inner_text().split() == ["measured", "projected"]
    half = page.locator("#canvas").bounding_box()["width"] / 2
    left, right = (READOUT.match(read(page, x, 300)) for x in (half / 2, half * 1.5))
    assert (left["x"], left["row"], left["column"]) == (right["x"], right["row"], right["column"])
    assert page.locator("#crosshair").is_visible()
    counts = dict(zip(fitted.obs_names, fitted[:, "class1_a"].X.toarray().ravel(), strict=True))
    told = set()
    for x in range(20, int(half), 12):
        found = re.search(r"spot (\S+): (\S+) counts per spot", read(page, x, 300))
        if found:
            assert number(found[2]) == counts[found[1]]
            told.add(found[1])
    assert len(told) > 2


def test_several_genes_are_light_of_several_colours(opened, report):
    page = opened(report)
    page.get_by_label("Several, in colours").check()
    painted(page, "class1_a, nuclei_a")
    page.locator("#genes").get_by_role("button", name="gradient_a").click()
    painted(page, "class1_a, nuclei_a, gradient_a")
    assert len(read(page, 400, 300).splitlines()) >= 4
    page.get_by_role("button", name="Take nuclei_a out").click()
    painted(page, "class1_a, gradient_a")
    assert changes(page, lambda: page.get_by_label("Colour of class1_a", exact=True).fill("#00ffff"))
    assert changes(
        page, lambda: page.get_by_label("Full colour of class1_a at").fill("1") or page.keyboard.press("Tab")
    )
    for key in "io":
        page.keyboard.press(key)
    page.locator("#opacity").fill("100")
    colours = picture(page)
    within = colours[colours.sum(axis=-1) > 0]
    assert (within[:, 2] > 200).any()  # the blue of cyan


def test_scales_are_absolute_and_may_be_held(opened, report):
    page = opened(report)
    own = number(page.locator("#top").input_value())
    assert f"{own:.3g}"[:4] in page.locator("#legend").inner_text().replace(",", "")
    assert "counts per spot area" in page.locator("#legend").inner_text()
    assert changes(page, lambda: page.locator("#top").fill("50") or page.keyboard.press("Tab"))
    page.get_by_label("Same scale for all genes").check()
    page.keyboard.press("]")
    painted(page, "nuclei_a")
    assert "50" in page.locator("#legend").inner_text()
    page.get_by_label("Same scale for all genes").uncheck()
    page.keyboard.press("[")
    painted(page, "class1_a")
    assert page.locator("#top").input_value() == "50"
    page.get_by_role("button", name="Auto").click()
    assert number(page.locator("#top").input_value()) == own
    assert changes(page, lambda: page.locator("#map").select_option("Cividis"))


def test_a_gene_that_is_not_in_the_file_is_answered_with_the_call(opened, report):
    page = opened(report)
    page.locator("#search").fill("total")
    text = page.locator("#missing").inner_text()
    assert "Measured, but not in this file: total_a, total_b" in text
    assert 'sphisto.pl.report("toy.zarr", genes=["class1_a", "nuclei_a", "gradient_a", "noise_a", "total_a"])' in text
    page.locator("#search").fill("Actb")
    assert page.locator("#missing").inner_text() == "No gene of that name is among the 18 of the table."


def test_skill_is_sorted_and_filtered(opened, report, fitted):
    page = opened(report)
    genes = lambda: page.locator("#skill-rows td:first-child").all_inner_texts()
    skill = fitted.var["projection_pearson"].dropna()
    assert genes()[: len(skill)] == list(skill.sort_values(ascending=False, kind="stable").index)
    page.get_by_role("button", name="r at left-out spots").click()
    assert genes()[: len(skill)] == list(skill.sort_values(kind="stable").index)
    page.get_by_role("button", name="Gene", exact=True).click()
    assert genes() == sorted(fitted.var_names)
    page.locator("#skill-filter").fill("class")
    assert genes() == sorted(name for name in fitted.var_names if "class" in name)
    page.get_by_label("Genes in this file only").check()
    assert genes() == ["class1_a"]
    page.keyboard.press("]")
    painted(page, "nuclei_a")
    page.locator("#skill-rows button").click()
    painted(page, "class1_a")


def test_tabs_show_their_panels(opened, report):
    page = opened(report)
    texts = {"Training": "Image loss", "Spots": "Counts per spot", "Input": "layout", "Settings": "um_per_px",
             "About this file": "8 bits", "Skill": "Gene"}  # fmt: skip
    for name, text in texts.items():
        page.get_by_role("tab", name=name).click()
        panel = page.get_by_role("tabpanel")
        assert panel.count() == 1
        assert text in panel.inner_text()
    page.get_by_role("tab", name="Skill").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Training").get_attribute("aria-selected") == "true"
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="About this file").get_attribute("aria-selected") == "true"


def test_sections_are_chosen_by_a_menu_and_outlines_one_by_one(opened, second, tmp_path):
    page = opened(pl.report(second, tmp_path / "a.html"))
    page.locator("#section").select_option("toy, second")
    page.wait_for_selector('#canvas[aria-label^="toy, second"]')
    assert page.locator('[data-section="1"]').count() == 5
    page.get_by_role("tab", name="About this file").click()
    assert "key='second'" in page.get_by_role("tabpanel").inner_text()
    assert changes(page, page.locator("#outlines").get_by_label("cells").uncheck)
    assert changes(page, page.locator("#outlines").get_by_label("tissue").uncheck)


def test_names_are_text_whatever_they_are(opened, store, tmp_path):
    odd = [
        "</script><script>boom()</script>",
        "it's \"5'\"",
        "\U0001f9e0",
        "a/b\\c",
        "<img src=x onerror=boom()>",
        "&amp;",
    ]
    sdata = sd.read_zarr(store)
    sdata["table"].var_names = [*odd, *sdata["table"].var_names[len(odd) :]]
    page = opened(pl.report(sdata, tmp_path / "a.html", genes=odd, title="<b>'&\"</b>"))
    assert page.title() == page.locator("h1").inner_text() == "<b>'&\"</b>"
    assert page.locator("#genes .name").all_inner_texts() == odd
    for name in odd[1:]:
        page.keyboard.press("]")
        page.wait_for_function("(name) => document.getElementById('canvas').dataset.painted === name", arg=name)
    assert page.locator("#legend .name").inner_text() == odd[-1]
    page.locator("#search").fill("<img")
    assert page.locator("#genes button").count() == 1


def test_a_page_says_that_it_is_loading_until_the_first_picture_is_drawn(opened, report, browser):
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(report.as_uri())
    assert still.locator("#stage").inner_text().strip() == "Loading \u2026"  # and no empty legend or scale
    context.close()
    page = opened(report)
    assert not page.locator("#loading").is_visible()
    assert page.locator("#legend").is_visible()


def test_the_script_leaves_no_global_name(opened, report, browser, tmp_path):
    names = "Object.getOwnPropertyNames(window)"
    (tmp_path / "blank.html").write_text("<!DOCTYPE html><title>blank</title>")
    context = browser.new_context()
    blank = context.new_page()
    blank.goto((tmp_path / "blank.html").as_uri())
    assert set(opened(report).evaluate(names)) == set(blank.evaluate(names))
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_fault_for_those_who_do_not_see_it(opened, report, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the group `browser` is not installed")
    page = opened(report, theme=theme, bypass_csp=True)
    assert page.locator("html").get_attribute("data-theme") == theme

    def faults():
        found = axe.Axe().run(page).response["violations"]
        return [
            (f["id"], f["impact"], [n["html"] for n in f["nodes"]])
            for f in found
            if f["impact"] in ("serious", "critical")
        ]

    assert faults() == []
    page.get_by_label("Several, in colours").check()
    painted(page, "class1_a, nuclei_a")
    page.keyboard.press("m")
    read(page, 300, 300)
    for name in ("Training", "Spots", "Settings", "About this file"):
        page.get_by_role("tab", name=name).click()
        assert faults() == []
    page.keyboard.press("?")
    assert faults() == []


def test_narrow_windows_show_all_of_it(opened, report):
    page = opened(report, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    canvas, genes = page.locator("#canvas").bounding_box(), page.locator("#genes").bounding_box()
    assert canvas["width"] == 390
    assert genes["y"] > canvas["y"] + canvas["height"]
    page.get_by_label("Measured beside projected").check()
    settled(page)
    assert page.locator("#pane-names").get_attribute("class") == "below"


@pytest.mark.slow
def test_large_reports_open_and_change_at_once(opened, large, tmp_path):
    path = pl.report(large, tmp_path / "a.html", genes=list(get.gene_raster(large, GENES, scale=2).gene.values))
    begun = time.perf_counter()
    page = opened(path)
    assert time.perf_counter() - begun < 2
    seconds = []
    for i in range(20):
        name = GENES[(i + 1) % len(GENES)]
        seconds.append(page.evaluate(
            """(name) => new Promise((done) => {
                const begun = performance.now(), canvas = document.getElementById("canvas");
                new MutationObserver(() => {
                  if (canvas.dataset.painted === name) requestAnimationFrame(() => done((performance.now() - begun) / 1000));
                }).observe(canvas, { attributes: true });
                document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "]", bubbles: true }));
            })""", name))  # fmt: skip
    assert statistics.median(seconds) < 0.3
