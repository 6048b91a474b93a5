"""`dorkos up` with short days, so that an hour is like a month, and with messages of its own.

    python -m benchmarks.soak.server up

Everything else is the real program.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.soak.inside import Inside
from dorkos import event_retention
from dorkos.app import System
from dorkos.cli.main import main
from dorkos.pulse import retention as pulse_retention
from dorkos.relay import idempotency
from dorkos.relay import retention as relay_retention

DAY = "SOAK_DAY_SECONDS"
"""How long a day of retention is."""
TOLD = "SOAK_TOLD"
"""The file for what `Inside` has to tell."""
RATE = "SOAK_RATE"
"""Its messages a second."""
_PASSES_A_DAY = 5


def _shorten(day_s: float) -> None:
    def short(*, days: float = 0, **others: Any) -> timedelta:
        return timedelta(seconds=days * day_s, **others)

    for module in (event_retention, pulse_retention, relay_retention):
        patched: Any = module
        patched.timedelta = short
        patched._INTERVAL_S = day_s / _PASSES_A_DAY  # noqa: SLF001  # It is no setting.
    patched = relay_retention
    patched._COUNTED_MINUTES = max(round(day_s / 60), 2)  # noqa: SLF001  # As above.
    patched = idempotency
    patched.WINDOW = timedelta(seconds=day_s)


def _send_from_within(rate: float, place: Path) -> None:
    patched: Any = System
    start, stop = System.start, System.stop
    kept: list[Inside] = []

    async def started(system: System) -> None:
        await start(system)
        kept.append(Inside(system.relay, rate, place))
        await kept[0].start()

    async def stopped(system: System) -> None:
        for inside in kept:
            await inside.stop()
        await stop(system)

    patched.start, patched.stop = started, stopped


if __name__ == "__main__":
    _shorten(float(os.environ[DAY]))
    _send_from_within(float(os.environ[RATE]), Path(os.environ[TOLD]))
    sys.exit(main())
