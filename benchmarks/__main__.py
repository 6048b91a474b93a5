"""`make bench`: measure, and print each number beside its promise, its limit and what others do.

Options: names of what to measure (all without any), `--rounds N`, `--json FILE`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

from benchmarks import console, discovery, due, kit, machine, messages, reading, restarts, schedules, start
from benchmarks.contest import Figure
from benchmarks.report import Row
from benchmarks.restarts import Account

_PROMISES: dict[str, Callable[[], Iterable[Row]]] = {
    "start": start.rows,
    "kit": kit.rows,
    "discovery": discovery.rows,
    "schedules": schedules.rows,
    "reading": reading.rows,
    "console": console.rows,
}
_ALL = ("messages", "due", "restarts", *_PROMISES)


def main() -> None:
    """Run what was asked for; a broken promise is told and ends with 1."""
    asked = _arguments()
    where = machine.description()
    print(", ".join(f"{name} {value}" for name, value in where.items() if name != "peers"))
    figures: list[Figure] = []
    accounts: list[Account] = []
    rows: list[Row] = []
    for name in asked.names or _ALL:
        if name == "messages":
            figures += (found := messages.figures(asked.rounds))
            _print_contests(found)
            rows += messages.rows(found)
        elif name == "due":
            figures += (found := due.figures(asked.rounds))
            _print_contests(found)
        elif name == "restarts":
            accounts = restarts.accounts()
            print("\na job every second, its scheduler killed three times and away three seconds each time")
            for account in accounts:
                print(f"  {account}")
        else:
            rows += _PROMISES[name]()
    print()
    for row in rows:
        print(row)
    if asked.json is not None:
        document = {
            "machine": where,
            "contests": [figure.document() for figure in figures],
            "restarts": [account.document() for account in accounts],
            "promises": [row.document() for row in rows],
        }
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    if any(row.kept is False for row in rows):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure what docs promise.")
    parser.add_argument("names", nargs="*", choices=[*_ALL, []], metavar="NAME", help=", ".join(_ALL))
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each contest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    return parser.parse_args()


def _print_contests(figures: Iterable[Figure]) -> None:
    for work, found in groupby(figures, key=lambda figure: figure.work):
        contestants = list(found)
        there = [figure for figure in contestants if figure.missing is None]
        print(f"\n{work}, per second: median of {len(there[0].rates)} (least to most), to the first")
        for figure in contestants:
            if figure.missing is not None:
                print(f"  {figure.name:<24} {figure.missing}")
                continue
            spread = f"({min(figure.rates):,.0f} to {max(figure.rates):,.0f})"
            share = figure.middle / there[0].middle
            print(f"  {figure.name:<24} {figure.middle:>9,.0f} {spread:>22} {share:>7.2f}  {figure.promise}")


if __name__ == "__main__":
    main()
