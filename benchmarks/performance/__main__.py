"""Measure memory and speed, then print what was found. Run from the repository's root, on a machine with little else to do:

    python -m benchmarks.performance --data FOLDER              # everything: half an hour on two cores
    python -m benchmarks.performance --only memory,reading      # those named
    python -m benchmarks.performance --device cuda              # networks on a GPU
    python -m benchmarks.performance --whole --only memory      # large slides full of tissue: half an hour more
    python -m benchmarks.performance --table                    # only print what is there
    python -m benchmarks.performance --docs                     # also write the tables of the documentation

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each real section; what needs those that are
missing is left out. Results are kept as JSON in benchmarks/performance/results, one file for each measurement and device.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from benchmarks.performance import inference, memory, reading, table, training
from benchmarks.performance.apart import Setting

MEASUREMENTS = {
    "memory": memory.measure,
    "inference": inference.measure,
    "training": training.measure,
    "reading": reading.measure,
}
ON_DEVICE = ("inference", "training")


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    setting = Setting(options.data, options.device, options.whole)
    failed = 0
    for name in () if options.table or options.docs else chosen(options.only, options.device):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            found = MEASUREMENTS[name](setting)
        except Exception:  # noqa: BLE001 - one failure must not end the run
            traceback.print_exc()
            failed += 1
        else:
            table.keep(name, setting, found, options.results)
    print(table.tables(options.results))
    if options.docs:
        table.write(options.results)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = os.environ.get("SPHISTO_DATA")
    out = argparse.ArgumentParser(
        prog="python -m benchmarks.performance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of real sections")
    out.add_argument("--only", default="", help=f"names, with commas between: {', '.join(MEASUREMENTS)}")
    out.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    out.add_argument("--whole", action="store_true", help="tissue fills the large slides")
    out.add_argument("--table", action="store_true", help="measure nothing")
    out.add_argument("--docs", action="store_true", help="measure nothing; write the documentation's tables")
    out.add_argument("--results", type=Path, default=table.RESULTS, help="folder of the results")
    return out


def chosen(only: str, device: str) -> list[str]:
    """Measurements named, or all; on a GPU those that run networks."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    unknown = [word for word in words if word not in MEASUREMENTS]
    if unknown:
        msg = f"Unknown: {', '.join(unknown)}. Known: {', '.join(MEASUREMENTS)}."
        raise SystemExit(msg)
    return words or [name for name in MEASUREMENTS if device == "cpu" or name in ON_DEVICE]


if __name__ == "__main__":
    sys.exit(main())
