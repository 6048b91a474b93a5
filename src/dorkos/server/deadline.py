"""How long a request may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from dorkos.errors import DorkError, ErrorCode

T = TypeVar("T")

REQUEST_S = 60.0


async def arriving(seconds: float, reading: Awaitable[T]) -> T:
    """What arrives, or `request_timeout` when it takes longer. Nothing was done then."""
    message = f"The request took longer than {seconds:g} s to arrive."
    return await _within(seconds, reading, message, "Nothing was done; send it again.")


async def answered(seconds: float, handling: Awaitable[T], *, changes: bool) -> T:
    """The answer, or `request_timeout` when it takes longer. A change that was begun is not undone."""
    message = f"The answer took longer than {seconds:g} s, the `server.requestSeconds` of this server."
    look = "What it was to change may be stored yet: look before you repeat it."
    wait = "Ask for less, or try again when the server has less to do."
    return await _within(seconds, handling, message, look if changes else wait)


async def _within(seconds: float, work: Awaitable[T], message: str, hint: str) -> T:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError as fault:
        if not limit.expired():
            raise  # Another deadline, further inside.
        details = {"seconds": seconds}
        raise DorkError(ErrorCode.REQUEST_TIMEOUT, message, hint=hint, details=details) from fault
