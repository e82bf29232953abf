"""Messages and errors about one of several sections."""

from __future__ import annotations

import logging

import pytest

from sphisto._naming import naming

logger = logging.getLogger("sphisto")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (("%d spots of %s", 3, "10 %"), "one: 3 spots of 10 %"),
        (("%s: found", "one"), "one: found"),
        (("Section %r is small", "one"), "Section 'one' is small"),
        (("no one is here",), "one: no one is here"),
    ],
)
def test_messages_begin_with_the_section_unless_they_name_it(caplog, message, said):
    with naming("one"):
        logger.warning(*message)
    assert caplog.messages == [said]


def test_what_is_said_outside_or_in_another_block_is_of_no_section_or_of_that(caplog):
    with naming("one"), naming("two"):
        logger.warning("inner")
    logger.warning("outer")
    assert caplog.messages == ["two: inner", "outer"]


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError])
def test_errors_begin_with_the_section_once(kind):
    with pytest.raises(kind, match="^['\"]?one: found nothing") as caught, naming("one"), naming("one"):
        raise kind(*["found nothing"])
    assert caught.value.args == ("one: found nothing",)


def test_an_error_of_the_system_gets_a_note():
    with pytest.raises(FileNotFoundError) as caught, naming("one"):
        open("not_there")  # noqa: PTH123, SIM115 - it is to fail
    assert caught.value.errno
    assert caught.value.__notes__ == ["That is of 'one'."]
