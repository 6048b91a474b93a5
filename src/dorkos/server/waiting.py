"""Work that may wait for something to happen, done for as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.auth import verifier_of_request
from dorkos.server.sse import until_gone

T = TypeVar("T")

# An answer that comes later than this is given only if the token still holds.
TRUSTED_S = 1.0


async def while_there(request: Request, handling: Awaitable[T]) -> T:
    """What `handling` gives, unless the client goes away first: then it is cancelled.

    The window is small but not closed: an answer that is under way when the client goes is lost. Raises
    `token_invalid` instead of an answer that came when the token of the request no longer held.
    """
    begun = asyncio.get_running_loop().time()
    work = asyncio.ensure_future(handling)
    gone = asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # A client that is gone does not see this; one whose server stops does.
            raise DorkError(
                ErrorCode.SHUTTING_DOWN,
                "The server stopped while you waited.",
                hint="Nothing was taken; ask again when it is back.",
            )
        if asyncio.get_running_loop().time() - begun >= TRUSTED_S:
            await verifier_of_request(request)()
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
