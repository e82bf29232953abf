"""Keep results, and put them in tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fidelity.page import between
from benchmarks.fidelity.table import markdown
from benchmarks.performance.apart import Row, machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.performance.apart import Setting

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- performance tables: begin -->", "<!-- performance tables: end -->"


def keep(name: str, setting: Setting, rows: Sequence[Row], results: Path = RESULTS) -> None:
    """Write the rows of a measurement, with the command and the machine that made them; in place of earlier ones."""
    command = f"python -m benchmarks.performance --only {name}"
    command += (" --data FOLDER" if setting.data else "") + (" --whole" if setting.whole else "")
    command += "" if setting.device == "cpu" else f" --device {setting.device}"
    found = {
        "name": name,
        "device": setting.device,
        "command": command,
        "machine": machine(setting.device),
        "rows": [asdict(row) for row in rows],
    }
    results.mkdir(parents=True, exist_ok=True)
    draft = results / f"{name}.{setting.device.replace(':', '')}.draft"
    draft.write_text(json.dumps(found, indent=1) + "\n")
    draft.replace(draft.with_suffix(".json"))


def tables(results: Path = RESULTS) -> str:
    """A table for each measurement that is there."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    return "\n\n".join(map(_table, found)) or "Nothing was measured yet."


def write(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the tables between the marks of the page."""
    page.write_text(between(page.read_text(), BEGIN, END, tables(results), page))


def _table(found: dict[str, Any]) -> str:
    rows = [_cells(Row(**row)) for row in found["rows"]]
    place = "" if found["device"] == "cpu" else f" on {found['device']}"
    return "\n\n".join(
        [
            f"### {found['name'].capitalize()}{place}",
            markdown(["", "found", "target", "", "behind it"], rows),
            f"`{found['command']}` on {found['machine']}",
        ]
    )


def _cells(row: Row) -> list[str]:
    unit = f" {row.unit}" if row.unit else ""
    target = met = ""
    if row.most is not None or row.least is not None:
        target = f"at most {row.most:g}{unit}" if row.most is not None else f"at least {row.least:g}{unit}"
        met = "pass" if is_met(row) else "short"
    return [
        row.what,
        f"{row.value:,.3g}{unit}" if row.value < 1000 else f"{row.value:,.0f}{unit}",
        target,
        met,
        row.behind,
    ]


def is_met(row: Row) -> bool:
    """Whether the target is reached."""
    return (row.most is None or row.value <= row.most) and (row.least is None or row.value >= row.least)
