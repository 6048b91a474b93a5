"""Results as tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from benchmarks.contest import Figure
from benchmarks.growth.fit import Curve
from benchmarks.report import Row
from benchmarks.restarts import Account


def contests(figures: Iterable[Figure]) -> str:
    """A table for each kind of work."""
    return "\n\n".join(_contest(work, list(found)) for work, found in groupby(figures, lambda one: one.work))


def _contest(work: str, figures: Sequence[Figure]) -> str:
    there = [one for one in figures if one.missing is None]
    rounds = len(there[0].rates)
    lines = [
        f"**{work[0].upper()}{work[1:]}**, a second; median of {rounds} rounds:",
        "",
        "| who | median | least to most | to the first | what is safe when it answers |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for one in figures:
        if one.missing is not None:
            lines.append(f"| {one.name} | | | | {one.missing} |")
            continue
        spread = f"{min(one.rates):,.0f} to {max(one.rates):,.0f}"
        share = one.middle / there[0].middle
        lines.append(f"| {one.name} | {one.middle:,.0f} | {spread} | {share:.2f} | {one.promise} |")
    return "\n".join(lines)


def accounts(found: Iterable[Account]) -> str:
    """What became of each second while a scheduler was killed."""
    lines = [
        "| who | seconds due | ran | twice | told why not | nothing known |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.name} | {one.seconds} | {one.ran} | {one.twice} | {one.told} | {one.silent} |"
        for one in found
    ]
    return "\n".join(lines)


def promises(rows: Iterable[Row]) -> str:
    """Each number beside its promise."""
    lines = ["| what | measured | least to most | promised | |", "| --- | ---: | ---: | --- | --- |"]
    for row in rows:
        spread = "" if row.spread is None else f"{row.spread[0]:,.2f} to {row.spread[1]:,.2f}"
        verdict = {True: "kept", False: "**missed**", None: ""}[row.kept]
        lines.append(f"| {row.work} | {row.value:,.2f} {row.unit} | {spread} | {row.promise} | {verdict} |")
    return "\n".join(lines)


def growth(curves: Sequence[Curve]) -> str:
    """Each cost by how much is stored."""
    sizes = sorted(curves[0].values)
    head = " | ".join(f"{size:,}" for size in sizes)
    lines = [
        f"| what | {head} | grows as | last to first |",
        f"| --- |{' ---: |' * len(sizes)} --- | ---: |",
    ]
    for curve in curves:
        values = " | ".join(f"{curve.values[size]:,.2f} {curve.unit}" for size in sizes)
        lines.append(f"| {curve.name} | {values} | n^{curve.exponent:.2f} | {curve.ratio:,.2f} |")
    return "\n".join(lines)


def machine(where: Mapping[str, object]) -> str:
    """What was measured on, and the versions of all."""
    own = ", ".join(f"{name} {value}" for name, value in where.items() if name != "peers")
    peers = where["peers"]
    assert isinstance(peers, dict)
    others = ", ".join(f"{name} {version}" for name, version in peers.items() if version)
    return f"Measured: {own}." + (f" Others: {others}." if others else "")
