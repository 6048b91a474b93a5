"""`make bench`: measure, and print each number beside its promise, its limit and what others do.

Options: names of what to measure (all without any), `--rounds N`, `--json FILE`, and `--write PAGE`, which
puts what was measured in its places on a page, such as docs/performance.md, and a picture beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks import console, discovery, due, kit, machine, messages, restarts, schedules, start, tables
from benchmarks.contest import Figure
from benchmarks.growth import promises as growth
from benchmarks.growth.fit import Curve
from benchmarks.growth.measure import curves
from benchmarks.growth.svg import picture
from benchmarks.page import write_block
from benchmarks.report import Row
from benchmarks.restarts import Account

_PROMISES: dict[str, Callable[[], Iterable[Row]]] = {
    "start": start.rows,
    "kit": kit.rows,
    "discovery": discovery.rows,
    "schedules": schedules.rows,
    "console": console.rows,
}
_CONTESTS = ("messages", "due")
_ALL = (*_CONTESTS, "restarts", *_PROMISES, "growth")


@dataclass(slots=True)
class Found:
    """What was measured, by the name under which it was asked for."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part took to be measured."""

    @property
    def all_rows(self) -> list[Row]:
        """Every number with a promise, and those beside them."""
        return [row for rows in self.rows.values() for row in rows]

    def document(self) -> dict[str, object]:
        """The JSON report."""
        return {
            "contests": [figure.document() for figures in self.figures.values() for figure in figures],
            "restarts": [account.document() for account in self.accounts],
            "growth": [curve.document() for curve in self.curves],
            "seconds": {name: round(took, 1) for name, took in self.seconds.items()},
            "promises": [row.document() for row in self.all_rows],
        }


def main() -> None:
    """Run what was asked for; a broken promise is told and ends with 1."""
    asked = _arguments()
    where = machine.description()
    print(", ".join(f"{name} {value}" for name, value in where.items() if name != "peers"))
    found = Found()
    for name in asked.names or _ALL:
        begun = time.monotonic()
        _measure(name, asked.rounds, found)
        found.seconds[name] = time.monotonic() - begun
        print(f"\n[{name} took {found.seconds[name]:.0f} s]", flush=True)
        if asked.write is not None:
            _write(asked.write, name, found, tables.machine(where))
    print()
    for row in found.all_rows:
        print(row)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": where} | found.document(), indent=1) + "\n")
    print(f"\n{sum(found.seconds.values()) / 60:.1f} minutes")
    if any(row.kept is False for row in found.all_rows):
        raise SystemExit(1)


def _measure(name: str, rounds: int, found: Found) -> None:
    if name in _CONTESTS:
        figures = messages.figures(rounds) if name == "messages" else due.figures(rounds)
        found.figures[name] = figures
        _print_contests(figures)
        if name == "messages":
            found.rows[name] = messages.rows(figures)
    elif name == "restarts":
        found.accounts = restarts.accounts()
        print("\na job every second, its scheduler killed three times and away three seconds each time")
        for account in found.accounts:
            print(f"  {account}")
    elif name == "growth":
        found.curves = curves()
        found.rows[name] = growth.rows(found.curves)
        print(f"\ncost by how much is stored: {', '.join(f'{size:,}' for size in found.curves[0].values)}")
        for curve in found.curves:
            print(f"  {curve}")
    else:
        found.rows[name] = list(_PROMISES[name]())


def _write(page: Path, name: str, found: Found, where: str) -> None:
    """Put what was measured under this name on the page, with what it was measured on."""
    parts = []
    if name in found.figures:
        parts.append(tables.contests(found.figures[name]))
    if name == "restarts":
        parts.append(tables.accounts(found.accounts))
    if name == "growth":
        image = page.parent / "images" / "growth.svg"
        image.write_text(picture(found.curves), encoding="utf-8")
        parts += [f"![Cost by how much is stored](images/{image.name})", tables.growth(found.curves)]
    if name in found.rows:
        parts.append(tables.promises(found.rows[name]))
    write_block(page, name, "\n\n".join([*parts, where]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure what docs promise.")
    parser.add_argument("names", nargs="*", choices=[*_ALL, []], metavar="NAME", help=", ".join(_ALL))
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each contest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the results in their places there")
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
