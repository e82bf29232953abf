"""Kill a fit at many instants and see what is left: ``python -m benchmarks.faults``.

Each time a small section is fitted into a store that holds other things, the process is killed (SIGKILL), and then:
does the store open, are its other elements as they were to the last bit, and does ``resume=True`` end in the rasters
of an unbroken run, to the last bit?
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

# before the libraries are loaded; a process of one thread can be copied safely
os.environ["OMP_NUM_THREADS"] = os.environ["TQDM_DISABLE"] = "1"

import numpy as np
from benchmarks.faults import scenario
from benchmarks.faults.killing import kill_after, run

QUESTIONS = ("opens", "others as they were", "resumed as unbroken", "nothing left behind")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--instants", type=int, default=60, help="how often to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (default: %(default)s)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        return 1 if report(survey(Path(folder), options.instants, options.seed)) else 0


def survey(folder: Path, instants: int, seed: int) -> list[tuple[str, float, dict[str, bool], str]]:
    """Kill that often; for each instant return how far the run had come, seconds, answers and what went wrong."""
    scenario.load()
    before = folder / "before"
    before.mkdir()
    run(lambda: scenario.prepare(before))
    unbroken = scenario.copied(before, folder / "unbroken")
    lasts = run(lambda: _timed(unbroken))
    expected, kept, first = run(
        lambda: (scenario.result(unbroken), scenario.earlier(before), scenario.library_of_first(before))
    )
    found = []
    for i, share in enumerate(np.random.default_rng(seed).random(instants)):
        place = scenario.copied(before, folder / "killed")
        alive = kill_after(lambda: scenario.replace(place), lasts * share)  # noqa: B023 - called at once
        at = scenario.stage(place) if alive else "ended before"
        answers, wrong = {}, run(lambda: scenario.opens(place))  # noqa: B023
        answers["opens"] = not wrong
        answers["others as they were"] = (
            scenario.earlier(place) == kept and run(lambda: scenario.library_of_first(place)) == first  # noqa: B023
        )
        run(lambda: scenario.replace(place, resume=True))  # noqa: B023
        again = run(lambda: scenario.result(place))  # noqa: B023
        differing = [name for name in expected if again[name] != expected[name]]
        answers["resumed as unbroken"] = not differing
        answers["others as they were"] &= (
            scenario.earlier(place) == kept and run(lambda: scenario.library_of_first(place)) == first  # noqa: B023
        )
        names = sorted(path.name for path in place.iterdir())
        answers["nothing left behind"] = names == sorted(path.name for path in unbroken.iterdir())
        wrong = "; ".join(filter(None, [wrong, ", ".join(differing), "" if all(answers.values()) else str(names)]))
        found.append((at, lasts * share, answers, wrong))
        print(f"{i + 1:3d} of {instants}: killed after {lasts * share:.2f} s, {at}: {wrong or 'well'}", file=sys.stderr)
    return found


def report(found: list[tuple[str, float, dict[str, bool], str]]) -> int:
    """Print one table and return how many instants went wrong."""
    times, right = Counter(at for at, *_ in found), defaultdict(Counter)
    for at, _, answers, _ in found:
        right[at].update(question for question in QUESTIONS if answers[question])
    print(f"| killed while | times | {' | '.join(QUESTIONS)} |\n|---|---|{'---|' * len(QUESTIONS)}")
    for at, number in times.most_common():
        print(f"| {at} | {number} | {' | '.join(str(right[at][question]) for question in QUESTIONS)} |")
    wrong = [
        f"after {seconds:.3f} s, {at}: {what}" for at, seconds, answers, what in found if not all(answers.values())
    ]
    print("\n".join(wrong) or f"\nAll {len(found)} instants went well.")
    return len(wrong)


def _timed(folder: Path) -> float:
    started = time.perf_counter()
    scenario.replace(folder)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
