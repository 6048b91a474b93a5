"""Break it on purpose, and count the promises that were kept and broken.

    python -m tests.crash.laboratory --kills 200 --seed 1
    python -m tests.crash.laboratory --engine postgresql --kills 50

Clients publish, consume, change schedules and start runs without a pause, and schedules are due every two
seconds, while servers are killed at random; before every fourth kill something worse happens, see
`disturbances`. At the end everything that waits is taken, and a checker that reads nothing but the database
and the clients' log says what became of each promise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.laboratory.experiment import experiment
from tests.crash.laboratory.world import PostgresWorld, SqliteWorld, World


def main() -> int:
    """Print the report; exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dorkos-lab-") as folder:
        Path(folder).chmod(0o755)
        made = SqliteWorld if options.engine == "sqlite" else PostgresWorld
        world: World = made(Path(folder).resolve())
        report = experiment(world, kills=options.kills, seed=options.seed, say=print)
    print(f"{options.engine}, seed {options.seed}: {report.kills} kills in {time.monotonic() - began:.0f} s")
    print("  " + ", ".join(f"{times} x {name}" for name, times in sorted(report.disturbances.items())))
    for promise in report.promises:
        print(f"  {promise.kept:7} kept {len(promise.broken):3} broken: {promise.words}")
        for case in promise.broken[:10]:
            print(f"            {case}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
