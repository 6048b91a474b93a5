"""Addresses of replies: each request has one, a mailbox for one message, named after the request.

Who may answer is decided here: the one who was asked, and whoever could send to the one who asked.
"""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_messages as m
from dorkos.ids import is_ulid
from dorkos.relay import endpoints
from dorkos.relay.access import AccessControl
from dorkos.relay.model import Message, Stop
from dorkos.vocabulary import DeadLetterReason, EndpointConsumer

_PREFIX = "relay.system.reply."
_REQUEST = Prepared(
    sa.select(m.c.sender, m.c.subject, m.c.reply_to).where(m.c.id == sa.bindparam("of_message"))
)


def address_of(request_id: str) -> str:
    """Where the reply to a request goes."""
    return f"{_PREFIX}{request_id}"


def is_address(subject: str) -> bool:
    """Whether this is the address of a reply."""
    return subject.startswith(_PREFIX)


def denied(tx: Transaction, access: AccessControl, sender: str, target: str) -> Stop | None:
    """Why the rules do not let `sender` send to `target`, or None.

    To the address of a reply, also: it leads to whoever asked, so for all but the one who was asked the rules
    judge as if it were sent there. Else it would be a way around a namespace that is closed.
    """
    decision = access.decide(tx, sender, target)
    if decision.allowed and is_address(target):
        found = tx.run(_REQUEST, {"of_message": request_of(target) or ""})
        asker, asked = found[0][:2] if found and found[0][2] == target else (None, None)
        if asker is not None and sender != asked:
            decision = access.decide(tx, sender, asker)
    return None if decision.allowed else Stop(DeadLetterReason.DENIED, decision.why)


def request_of(address: str) -> str | None:
    """The request whose reply goes to this address; None if it is no address of a reply."""
    request_id = address.removeprefix(_PREFIX)
    return request_id if is_address(address) and is_ulid(request_id) else None


def open_mailbox(tx: Transaction, request: Message, *, endpoint_id: str, actor: str) -> None:
    """Open the mailbox of the reply to a request, in the change that stores the request."""
    assert request.reply_to is not None
    endpoints.open_mailbox(
        tx,
        endpoint_id=endpoint_id,
        subject=request.reply_to,
        agent_id=None,
        consumer=EndpointConsumer.CLAIM,
        description=f"The reply of {request.subject} to {request.sender}.",
        actor=actor,
        limits=endpoints.MailboxLimits(max_pending=1),
        expires_at=request.expires_at,
    )
