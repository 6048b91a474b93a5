"""Mailboxes in the database: opening, closing and finding them, and how full they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.model import Endpoint, Mailbox
from dorkos.relay.places import Place, limits_of
from dorkos.relay.subjects import subject_hash
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import EndpointConsumer

_COLUMNS = tuple(e.c[field.name] for field in fields(Endpoint))

_FIND = Prepared(sa.select(*_COLUMNS).where(e.c.subject == sa.bindparam("of_subject")))

_MAILBOX = Prepared(
    sa.select(*(e.c[field.name] for field in fields(Mailbox))).where(
        e.c.subject == sa.bindparam("of_subject")
    )
)


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """How much may wait in one mailbox, by count and by bytes of payload; None takes the settings'."""

    max_pending: int | None = None
    max_pending_bytes: int | None = None


def pressure(of: Place | Endpoint, settings: RelaySettings, *, without: int | None = None) -> float:
    """How full a mailbox is by count or by bytes, whichever is more, from 0 to 1.

    `without` takes off one message of so many bytes.
    """
    count, size = of.pending_count, of.pending_bytes
    if without is not None:
        count, size = count - 1, size - without
    most, most_bytes = limits_of(of, settings)
    return max(0.0, min(1.0, max(count / most, size / most_bytes)))


def no_room(mailbox: Endpoint, size: int, settings: RelaySettings) -> str | None:
    """Why a message of `size` bytes does not fit, in words, or None if it does."""
    most, most_bytes = limits_of(mailbox, settings)
    if mailbox.pending_count >= most:
        return f"The mailbox {mailbox.subject} is full: {mailbox.pending_count} messages wait in it."
    if mailbox.pending_bytes + size > most_bytes:
        return (
            f"The mailbox {mailbox.subject} is full: {mailbox.pending_bytes} of {most_bytes} bytes wait in"
            f" it, and this message has {size}."
        )
    return None


def lock(tx: Transaction, endpoint_id: str) -> Endpoint | None:
    """The mailbox, held against other changes until this one ends (SQLite has one writer anyway)."""
    row = tx.execute(sa.select(*_COLUMNS).where(e.c.id == endpoint_id).with_for_update()).one_or_none()
    return None if row is None else _endpoint_of(row)


def find(connection: sa.Connection | Transaction, subject: str) -> Endpoint | None:
    """The mailbox with this subject, open or closed."""
    if isinstance(connection, Transaction):
        rows = connection.run(_FIND, {"of_subject": subject})
        return _endpoint_of(rows[0]) if rows else None
    row = connection.execute(sa.select(*_COLUMNS).where(e.c.subject == subject)).one_or_none()
    return None if row is None else _endpoint_of(row)


def find_by_hash(connection: sa.Connection | Transaction, name: str) -> str | None:
    """The subject of the mailbox that has this short name; None if there is none, or more than one."""
    found = connection.execute(sa.select(e.c.subject).where(e.c.hash == name).limit(2)).scalars().all()
    return found[0] if len(found) == 1 else None


def get(connection: sa.Connection | Transaction, subject: str) -> Endpoint:
    """The mailbox with this subject, open or closed. Raises `endpoint_not_found`."""
    endpoint = find(connection, subject)
    if endpoint is None:
        raise _not_found(subject)
    return endpoint


def mailbox(tx: Transaction, subject: str, *, is_open: bool = False) -> Mailbox:
    """The mailbox with this subject, read once for all changes of a commit.

    Raises `endpoint_not_found`; for a closed one, too, if it `is_open` that is asked for.
    """
    rows = tx.recall(_MAILBOX, {"of_subject": subject})
    if not rows:
        raise _not_found(subject)
    found = Mailbox(*rows[0])
    if is_open and found.closed_at is not None:
        raise _is_closed(subject)
    return found


def get_open(connection: sa.Connection | Transaction, subject: str) -> Endpoint:
    """The open mailbox with this subject. Raises `endpoint_not_found`, also for a closed one."""
    endpoint = get(connection, subject)
    if endpoint.closed_at is not None:
        raise _is_closed(subject)
    return endpoint


def newest_first(connection: sa.Connection, *, include_closed: bool) -> list[Endpoint]:
    """All mailboxes."""
    statement = sa.select(*_COLUMNS).order_by(e.c.id.desc())
    if not include_closed:
        statement = statement.where(e.c.closed_at.is_(None))
    return [_endpoint_of(row) for row in connection.execute(statement)]


def open_mailbox(
    tx: Transaction,
    *,
    endpoint_id: str,
    subject: str,
    agent_id: str | None,
    consumer: EndpointConsumer,
    description: str | None = None,
    actor: str | None = None,
    limits: MailboxLimits | None = None,
    expires_at: datetime | None = None,
) -> bool:
    """Open a mailbox, or open again the closed one that has this subject. False if it was open already.

    An open mailbox stays as it is. One that is opened again keeps its id and its history. One with an expiry
    takes nothing after it, and is closed soon.
    """
    identity = {
        "id": endpoint_id,
        "subject": subject,
        "hash": subject_hash(subject),
        "created_at": tx.now(),
    }
    own = limits or MailboxLimits()
    values = {
        "agent_id": agent_id,
        "consumer": consumer,
        "description": description,
        "max_pending": own.max_pending,
        "max_pending_bytes": own.max_pending_bytes,
        "expires_at": expires_at,
    }
    opened = tx.execute(
        insert(e).on_conflict_do_nothing(index_elements=["subject"]).returning(e.c.id),
        identity | values,
    ).scalar_one_or_none()
    if opened is None:
        opened = tx.execute(
            sa.update(e)
            .where(e.c.subject == subject, e.c.closed_at.is_not(None))
            .values(closed_at=None, **values)
            .returning(e.c.id)
        ).scalar_one_or_none()
    if opened is None:
        return False
    tx.emit("relay.endpoint.opened", opened, {"subject": subject, "consumer": consumer}, actor=actor)
    return True


def adopt(tx: Transaction, *, subject: str, agent_id: str, consumer: EndpointConsumer | None) -> None:
    """Give an open mailbox to an agent; None keeps who takes from it. Harmless to repeat."""
    changed = {} if consumer is None else {"consumer": consumer}
    tx.execute(sa.update(e).where(e.c.subject == subject).values(agent_id=agent_id, **changed))


def mark_closed(
    tx: Transaction, which: sa.ColumnElement[bool], *, actor: str | None
) -> list[tuple[str, str]]:
    """Close the open mailboxes among `which`; their (id, subject). They take nothing from now on."""
    rows = tx.execute(
        sa.update(e)
        .where(which, e.c.closed_at.is_(None))
        .values(closed_at=tx.now())
        .returning(e.c.id, e.c.subject)
    ).all()
    closed = sorted((row.id, row.subject) for row in rows)
    for endpoint_id, subject in closed:
        tx.emit("relay.endpoint.closed", endpoint_id, {"subject": subject}, actor=actor)
    return closed


def _not_found(subject: str) -> DorkError:
    return DorkError(
        ErrorCode.ENDPOINT_NOT_FOUND,
        f"There is no mailbox {subject}.",
        hint="`dorkos relay endpoints` lists the mailboxes; `dorkos relay open` makes one.",
    )


def _is_closed(subject: str) -> DorkError:
    return DorkError(
        ErrorCode.ENDPOINT_NOT_FOUND,
        f"The mailbox {subject} is closed.",
        hint="Open it again, or look for where its owner moved to.",
    )


def _endpoint_of(row: Sequence[Any]) -> Endpoint:
    return Endpoint(*row)
