"""Waiting for disks, and no longer than one wants to."""

from __future__ import annotations

import asyncio
import threading

from dorkos.mesh.patience import Patience


async def test_what_comes_back_in_the_last_moment_is_taken() -> None:
    """The patience ends and the answer comes in the same turn of the loop: it is no disk that hangs, and the
    next who asks is not told so for ever."""
    patience = Patience[int](0)
    asked = asyncio.create_task(patience.wait_for("disk", lambda: 1))
    asyncio.get_running_loop().call_soon(_let_the_looks_end)

    assert await asked == 1
    patience.seconds = 60
    assert await patience.wait_for("disk", lambda: 2) == 2


def _let_the_looks_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "dorkos-look":
            thread.join(60)
