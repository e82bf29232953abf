from __future__ import annotations

import io
import subprocess
import sys

import pytest

from sphisto._terminal import print_line


def written(encoding: str | None) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "µ 组 \\udce4\n"),
        ("ascii", "\\xb5 \\u7ec4 \\udce4\n"),
        ("latin-1", "µ \\u7ec4 \\udce4\n"),
    ],
)
@pytest.mark.parametrize("error", [False, True])
def test_letters_that_the_output_lacks_are_escaped(monkeypatch, encoding, shown, error):
    output = written(encoding)
    monkeypatch.setattr(sys, "stderr" if error else "stdout", output)
    print_line("µ 组 \udce4", error=error)
    assert output.buffer.getvalue().decode(encoding) == shown


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("kind", ["none", "closed", "gone"])
def test_an_output_that_is_not_there_is_passed_over(monkeypatch, kind):
    output = {"none": None, "closed": io.StringIO(), "gone": Gone()}[kind]
    if kind == "closed":
        output.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, output)
    print_line("a")
    print_line("b", error=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of that kind")
def test_a_command_whose_reader_has_gone_ends_well():
    code = "import sys; from sphisto import cli; sys.exit(cli.main(['fit', '--help']))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, b"")
