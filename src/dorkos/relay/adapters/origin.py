"""Messages that say where they come from: a claim that can only narrow what they may do, never widen it."""

from __future__ import annotations

from dorkos.db.database import Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.access import AccessControl


def check_origin(tx: Transaction, access: AccessControl, origin: str | None, target: str) -> None:
    """Raise `forbidden` if whoever a message says it is from may not send to `target`.

    The adapter that brings it is judged besides, as every sender is.
    """
    if origin is None:
        return
    decision = access.decide(tx, origin, target)
    if not decision.allowed:
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"It comes from {origin}, who may not send to {target}: {decision.why}",
            hint="`dorkos relay explain` tells what would change it.",
        )
