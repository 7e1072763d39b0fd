"""Mutate recorded hosts and judge each: no traceback, and nothing passes that is bad.

    python benchmarks/fuzz_host.py [--mutations N] [--seed N]

The oracle is described in tests/fuzz/mutations.py. Exit code 1 if anything was found.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from fuzz.mutations import BAD, Tally, fuzz  # noqa: E402  # it is found by the path above

SHOWN = 20


def main() -> int:
    """Run, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = fuzz(Path(folder), wanted.seed, wanted.mutations)
    _print(tally, wanted.seed, time.perf_counter() - start)
    return 1 if tally.wrong or tally.broken else 0


def _print(tally: Tally, seed: int, seconds: float) -> None:
    rows = {
        "seed": seed,
        "bad hosts": len(BAD),
        "mutations": tally.runs,
        "mutations per second": round(tally.runs / seconds),
        "passed with good reason": tally.excused.total(),
        "passed wrongly": len(tally.wrong),
        "tracebacks": len(tally.broken),
    }
    for name, value in rows.items():
        print(f"{name:<26}{value:>10}")
    for finding in [*tally.broken[:SHOWN], *tally.wrong[:SHOWN]]:
        print(f"- {finding}")


if __name__ == "__main__":
    sys.exit(main())
