"""Contests: the same work by several, in turns, in one run on one machine, so that only ratios matter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Protocol

AT_ONCE = 64
"""How many messages are under way at once."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one contestant did in each round, per second; the first round, a warm-up, is left out.

    One that is `missing` did nothing, and says why.
    """

    work: str
    name: str
    promise: str
    rates: tuple[float, ...] = ()
    missing: str | None = None

    @property
    def middle(self) -> float:
        """The median of the rounds. Only of one that took part."""
        return median(self.rates)

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        known: dict[str, object] = {
            "work": self.work,
            "name": self.name,
            "promise": self.promise,
            "unit": "1/s",
        }
        if self.missing is not None:
            return known | {"missing": self.missing}
        return known | {
            "median": round(self.middle, 1),
            "least": round(min(self.rates), 1),
            "most": round(max(self.rates), 1),
            "rounds": [round(rate, 1) for rate in self.rates],
        }


class Contestant(Protocol):
    """One who does the work. `promise` says what is durable when it answers, where that is less than ours."""

    name: str
    promise: str

    async def open(self, folder: Path) -> None:
        """Get ready, keeping everything in `folder`."""
        ...

    async def close(self) -> None:
        """End everything that was started."""
        ...


async def _nothing() -> None:
    """Nothing has to be made ready."""


@dataclass(frozen=True, slots=True)
class Doer:
    """How one contestant does one kind of work, and how many pieces a round tell its speed.

    `ready` comes before each round and is not measured.
    """

    do: Callable[[int], object]
    count: int
    ready: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work: how each contestant does `count` pieces of it."""

    name: str
    doers: Mapping[str, Doer]
    """By contestant."""


async def hold(
    contestants: Sequence[Contestant], works: Callable[[], Sequence[Work]], *, rounds: int
) -> list[Figure]:
    """All works, `rounds` times each after a warm-up, the contestants in turn within each round.

    One whose package or program is not installed is named as missing; the others go on.
    """
    missing: dict[str, str] = {}
    with TemporaryDirectory(prefix="dorkos-bench-") as folder:
        async with AsyncExitStack() as stack:
            for number, contestant in enumerate(contestants):
                place = Path(folder) / str(number)
                place.mkdir()
                try:
                    await contestant.open(place)
                except (ModuleNotFoundError, FileNotFoundError) as fault:
                    # Each asks for its package or program before it makes anything that has to be closed.
                    missing[contestant.name] = f"not installed: {fault}"
                else:
                    stack.push_async_callback(contestant.close)
            promises = {contestant.name: contestant.promise for contestant in contestants}
            return [figure for work in works() for figure in await _rounds(work, promises, missing, rounds)]


async def _rounds(
    work: Work, promises: Mapping[str, str], missing: Mapping[str, str], rounds: int
) -> list[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in work.doers}
    for _ in range(rounds + 1):
        for name, doer in work.doers.items():
            if name in missing:
                continue
            await doer.ready()
            begun = time.perf_counter()
            done = doer.do(doer.count)
            if asyncio.iscoroutine(done):
                await done
            rates[name].append(doer.count / (time.perf_counter() - begun))
    return [
        Figure(work.name, name, promises[name], tuple(found[1:]), missing.get(name))
        for name, found in rates.items()
    ]


async def spread(count: int, one: Callable[[], object]) -> None:
    """Do `one`, a coroutine function, `count` times, with `AT_ONCE` under way."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            done = one()
            assert asyncio.iscoroutine(done)
            await done

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
