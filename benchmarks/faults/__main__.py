"""Kill a fit at many instants and see what is left: ``python -m benchmarks.faults``.

Each time a small section is fitted into a store that holds other things, the process is killed (SIGKILL), and then:
does the store open, are its other elements as they were to the last bit, and does ``resume=True`` end in the rasters
of an unbroken run, to the last bit?
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# before the libraries are loaded; a process of one thread can be copied safely
os.environ["OMP_NUM_THREADS"] = os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd
from benchmarks.faults import scenario

FORK = get_context("fork")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--instants", type=int, default=60, help="how often to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (default: %(default)s)")
    parser.add_argument("--windows", action="store_true", help="krige in windows, as large sections are")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        found = survey(Path(folder), options.instants, options.seed, windows=options.windows)
    questions = found.drop(columns=["killed while", "seconds", "wrong"])
    print(questions.groupby(found["killed while"]).sum().assign(times=found["killed while"].value_counts()).to_string())
    failed = found[~questions.all(axis=1)]
    print(failed.to_string() if len(failed) else f"\nAll {len(found)} instants went well.")
    return int(len(failed) > 0)


def survey(folder: Path, instants: int, seed: int, *, windows: bool = False) -> pd.DataFrame:
    """Kill that often; a row for each instant says how far the run had come, and answers the questions."""
    scenario.load()
    before, unbroken, place = (folder / name for name in ("before", "unbroken", "killed"))
    before.mkdir()
    run(lambda: scenario.prepare(before, windows=windows))
    scenario.copy(before, unbroken)
    lasts = run(lambda: scenario.replace(unbroken, windows=windows))
    expected, others = run(lambda: (scenario.result(unbroken), scenario.others(before)))
    rows = []
    for i, share in enumerate(np.random.default_rng(seed).random(instants)):
        scenario.copy(before, place)
        alive = kill_after(lambda: scenario.replace(place, windows=windows), lasts * share)
        at = scenario.stage(place) if alive else "ended before"
        wrong, kept = run(lambda: (scenario.opens(place), scenario.others(place)))
        run(lambda: scenario.replace(place, windows=windows, resume=True))
        again, kept_again = run(lambda: (scenario.result(place), scenario.others(place)))
        answers = {
            "opens": not wrong,
            "others as they were": kept == kept_again == others,
            "resumed as unbroken": again == expected,
            "nothing left behind": {p.name for p in place.iterdir()} == {p.name for p in unbroken.iterdir()},
        }
        rows.append({"killed while": at, "seconds": lasts * share, "wrong": wrong, **answers})
        said = "well" if all(answers.values()) else f"{wrong} {answers}"
        print(f"{i + 1:3d} of {instants}: killed after {lasts * share:.2f} s, {at}: {said}", file=sys.stderr)
    return pd.DataFrame(rows)


def run(do: Callable[[], Any]) -> Any:
    """Do something in a copy of this process and return what it returned.

    A copy has all libraries loaded, which takes a new process longer than the whole fit. This process itself must never
    start a thread: it only forks.
    """
    reader, writer = FORK.Pipe(duplex=False)
    child = FORK.Process(target=lambda: writer.send(do()))
    child.start()
    writer.close()
    found = reader.recv()  # EOFError if the copy failed: its message is above
    child.join()
    return found


def kill_after(do: Callable[[], Any], seconds: float) -> bool:
    """Kill a copy of this process that does something after some seconds; tell whether it was still at it."""
    child = FORK.Process(target=do)
    child.start()
    child.join(seconds)
    alive = child.is_alive()
    child.kill()
    child.join()
    return alive


if __name__ == "__main__":
    sys.exit(main())
