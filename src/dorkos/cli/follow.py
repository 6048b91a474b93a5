"""Following a stream of the server across broken connections and restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dorkos.cli.render import notice
from dorkos.cli.sse import ServerEvent
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.cli.client import Client, QueryValue

# A server that restarts is back within seconds; one that is gone for this long has been stopped.
_GIVE_UP_S = 60.0
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
# What a stopping, starting or overloaded server answers: waiting helps.
_PASSING = (ErrorCode.NOT_RUNNING, ErrorCode.NOT_READY, ErrorCode.SHUTTING_DOWN, ErrorCode.TOO_MANY_STREAMS)


def follow(
    client: Client,
    path: str,
    *,
    last_id: str | None = None,
    give_up_s: float = _GIVE_UP_S,
    **query: QueryValue,
) -> Iterator[ServerEvent]:
    """The events of a stream without end, none twice and none left out: it goes on after the last id seen.

    The first connection must succeed. Later ones are tried again for `give_up_s` seconds; then the
    refusal is raised.
    """
    connected = False
    wait_s, lost_at = _FIRST_WAIT_S, 0.0
    while True:
        try:
            with client.stream(path, last_id=last_id, **query) as events:
                if connected:
                    notice("Connected again.")
                connected = True
                for event in events:
                    wait_s, lost_at = _FIRST_WAIT_S, 0.0
                    last_id = event.id or last_id
                    yield event
        except DorkError as refusal:
            if not connected or refusal.code not in _PASSING:
                raise
            if lost_at and time.monotonic() - lost_at > give_up_s:
                raise
        if not lost_at:
            lost_at = time.monotonic()
            notice("The connection ended; waiting for the server to come back.")
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
