"""What stands between a sender and a target besides the rules: limits, the mailbox, what stopped lately."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.relay import breaker, deadletters, endpoints, rates
from dorkos.relay.model import Breaker, DeadLetter, Endpoint, LetterFilter
from dorkos.setting_groups.relay import RelaySettings

_LATELY = timedelta(hours=24)
_STOPS_MAX = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand at the moment. `mailbox` None: the target has none."""

    limits: tuple[rates.Used, ...]
    mailbox: Endpoint | None
    circuit: Breaker
    stopped: tuple[DeadLetter, ...]


def standing(
    connection: sa.Connection, sender: str, target: str, settings: RelaySettings, now: datetime
) -> Standing:
    """Read it, in one snapshot."""
    mailbox = endpoints.find(connection, target)
    letters = deadletters.newest_first(
        connection, LetterFilter(sender=sender, subject=target), limit=_STOPS_MAX
    )
    return Standing(
        rates.used(connection, sender, target, settings, now),
        mailbox,
        breaker.CLOSED if mailbox is None else breaker.find(connection, mailbox.id),
        tuple(letter for letter in letters if letter.created_at > now - _LATELY),
    )
