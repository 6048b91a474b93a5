"""Adapters in the database: their definitions, how each is doing, and which server runs it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_adapter_marks as k
from dorkos.db.schema.relay import relay_adapter_states as s
from dorkos.db.schema.relay import relay_adapters as a
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.relay import endpoints
from dorkos.relay.adapters.model import Adapter, AdapterStatus
from dorkos.relay.inbox import IS_PENDING
from dorkos.vocabulary import AdapterMarkKind, AdapterState, EndpointConsumer

_ADAPTER = (a.c.id, a.c.type, a.c.enabled, a.c.config, a.c.secrets, a.c.created_at, a.c.updated_at)
_STATUS = (
    s.c.state,
    s.c.owner,
    s.c.started_at,
    s.c.inbound_count,
    s.c.outbound_count,
    s.c.error_count,
    s.c.last_error,
    s.c.last_error_at,
)
# A mark is looked for within minutes, or at most days; and nothing that old is sent again.
MARKS_KEPT = timedelta(days=7)
FORGOTTEN_AT_ONCE = 500
_ERROR_LENGTH_MAX = 500


def every(source: sa.Connection | Transaction) -> list[tuple[Adapter, AdapterStatus]]:
    """All adapters by id, each with how it is doing."""
    return [_known(row) for row in source.execute(_WITH_STATUS.order_by(a.c.id))]


def enabled(source: sa.Connection | Transaction) -> list[Adapter]:
    """The adapters that are switched on, by id."""
    statement = sa.select(*_ADAPTER).where(a.c.enabled == sa.true()).order_by(a.c.id)
    return [Adapter(*row) for row in source.execute(statement)]


def get(source: sa.Connection | Transaction, adapter_id: str) -> tuple[Adapter, AdapterStatus]:
    """One adapter and how it is doing. Raises `adapter_not_found`."""
    row = source.execute(_WITH_STATUS.where(a.c.id == adapter_id)).one_or_none()
    if row is None:
        raise DorkError(
            ErrorCode.ADAPTER_NOT_FOUND,
            f"There is no adapter {adapter_id[:100]}.",
            hint="`dorkos relay adapters` lists them.",
        )
    return _known(row)


def add(tx: Transaction, adapter: Adapter, *, actor: str) -> None:
    """Store a new one. Raises `adapter_exists`."""
    values = _values(adapter) | {"id": adapter.id, "type": adapter.type, "created_at": adapter.created_at}
    stored = tx.execute(insert(a).on_conflict_do_nothing().returning(a.c.id), values).one_or_none()
    if stored is None:
        raise DorkError(
            ErrorCode.ADAPTER_EXISTS,
            f"There is an adapter {adapter.id} already.",
            hint="Change that one, or choose another id.",
        )
    tx.emit("relay.adapter.added", adapter.id, _told(adapter), actor=actor)


def replace(tx: Transaction, adapter: Adapter, *, actor: str) -> None:
    """Store what an adapter has become; whoever runs it starts it anew."""
    tx.execute(sa.update(a).where(a.c.id == adapter.id), _values(adapter))
    tx.emit("relay.adapter.updated", adapter.id, _told(adapter), actor=actor)


def remove(tx: Transaction, adapter: Adapter, *, actor: str) -> None:
    """Delete it with all that it remembers. Its mailbox has to be closed before."""
    tx.execute(sa.delete(a).where(a.c.id == adapter.id))
    tx.emit("relay.adapter.removed", adapter.id, {"type": adapter.type}, actor=actor)


def open_mailbox(tx: Transaction, adapter: Adapter) -> None:
    """See to it that the adapter has its mailbox, and that the mailbox knows its adapter."""
    endpoints.open_mailbox(
        tx,
        endpoint_id=new_id(),
        subject=adapter.subject,
        agent_id=None,
        consumer=EndpointConsumer.ADAPTER,
        description=f"What the adapter {adapter.id} sends.",
        actor=adapter.subject,
    )
    tx.execute(
        sa.update(e)
        .where(
            e.c.subject == adapter.subject,
            sa.or_(
                e.c.adapter_id.is_distinct_from(adapter.id),
                e.c.consumer.is_distinct_from(EndpointConsumer.ADAPTER),
            ),
        )
        .values(adapter_id=adapter.id, consumer=EndpointConsumer.ADAPTER)
    )


def take(tx: Transaction, adapter_id: str, owner: str, lease: timedelta, *, alone: bool) -> bool:
    """Become the one server that runs the adapter, for as long as the lease; False while another does.

    `alone` says that no other server can be there: whoever is named as owner has ended.
    """
    now = tx.now()
    free = sa.or_(s.c.owner.is_(None), s.c.owner == owner, s.c.lease_expires_at < now)
    tx.execute(
        insert(s)
        .from_select(
            ["adapter_id", "updated_at"],
            sa.select(a.c.id, sa.literal(now, s.c.updated_at.type)).where(a.c.id == adapter_id),
        )
        .on_conflict_do_nothing()
    )
    taken = tx.execute(
        sa.update(s)
        .where(s.c.adapter_id == adapter_id, sa.true() if alone else free)
        .values(owner=owner, lease_expires_at=now + lease, started_at=None)
        .returning(s.c.adapter_id)
    )
    return taken.one_or_none() is not None


def give_back(tx: Transaction, adapter: Adapter) -> None:
    """Make claimable again what an earlier server held when it ended. Only for who has just taken over."""
    mailbox = sa.select(e.c.id).where(e.c.subject == adapter.subject).scalar_subquery()
    tx.execute(
        sa.update(i)
        .where(i.c.endpoint_id == mailbox, IS_PENDING, i.c.lease_owner == adapter.subject)
        .values(lease_token=None, lease_owner=None, available_at=tx.now())
    )


def renew(tx: Transaction, owner: str, adapter_ids: Sequence[str], lease: timedelta) -> set[str]:
    """Go on running those that are still this server's; which these are."""
    now = tx.now()
    renewed = tx.execute(
        sa.update(s)
        .where(s.c.adapter_id.in_(adapter_ids), s.c.owner == owner)
        .values(lease_expires_at=now + lease)
        .returning(s.c.adapter_id)
    )
    return set(renewed.scalars())


def release(tx: Transaction, adapter_id: str, owner: str) -> None:
    """Stop being the one that runs it. What went wrong before stays to be read."""
    kept = (AdapterState.AUTH_FAILED, AdapterState.ERROR)
    tx.execute(
        sa.update(s)
        .where(s.c.adapter_id == adapter_id, s.c.owner == owner)
        .values(
            owner=None,
            lease_expires_at=None,
            started_at=None,
            state=sa.case(
                (s.c.state.in_(kept), s.c.state),
                else_=sa.literal(AdapterState.DISCONNECTED, s.c.state.type),
            ),
            updated_at=tx.now(),
        )
    )


def rest(tx: Transaction, adapter_id: str) -> None:
    """Show an adapter that was switched off as that, whatever went wrong before."""
    tx.execute(
        sa.update(s)
        .where(s.c.adapter_id == adapter_id)
        .values(state=AdapterState.DISCONNECTED, started_at=None, updated_at=tx.now())
    )


def set_state(
    tx: Transaction, adapter_id: str, owner: str, state: AdapterState, *, error: str | None = None
) -> None:
    """Record how it is doing, as the server that runs it sees it; an event tells of each change."""
    now = tx.now()
    values: dict[str, Any] = {"state": state, "updated_at": now}
    if state is AdapterState.CONNECTED:
        values["started_at"] = sa.func.coalesce(s.c.started_at, sa.literal(now, s.c.started_at.type))
    if error is not None:
        values |= _error(error, now)
    changed = sa.or_(s.c.state != state, sa.literal(error is not None, sa.Boolean))
    stored = tx.execute(
        sa.update(s)
        .where(s.c.adapter_id == adapter_id, s.c.owner == owner, changed)
        .values(values)
        .returning(s.c.adapter_id)
    ).one_or_none()
    if stored is not None:
        data: dict[str, object] = {"state": state.value}
        if error is not None:
            data["detail"] = _cut(error)
        tx.emit("relay.adapter.state_changed", adapter_id, data)


def count(
    tx: Transaction, adapter_id: str, *, inbound: int = 0, outbound: int = 0, error: str | None = None
) -> None:
    """Count what came in or went out, or a fault, in the change that stores it."""
    now = tx.now()
    values: dict[str, Any] = {
        "inbound_count": s.c.inbound_count + inbound,
        "outbound_count": s.c.outbound_count + outbound,
    }
    if error is not None:
        values |= _error(error, now)
    new = {"adapter_id": adapter_id, "inbound_count": inbound, "outbound_count": outbound, "updated_at": now}
    if error is not None:
        new |= {"error_count": 1, "last_error": _cut(error), "last_error_at": now}
    tx.execute(insert(s).on_conflict_do_update(index_elements=["adapter_id"], set_=values), new)


def cursor(source: sa.Connection | Transaction, adapter_id: str) -> str | None:
    """How far the adapter has read at the other side; None if it never did."""
    return source.execute(sa.select(s.c.cursor).where(s.c.adapter_id == adapter_id)).scalar_one_or_none()


def move_cursor(tx: Transaction, adapter_id: str, value: str) -> None:
    """Remember how far it has read, in the change that stores what it read."""
    tx.execute(sa.update(s).where(s.c.adapter_id == adapter_id).values(cursor=value))


def mark(
    tx: Transaction, adapter_id: str, kind: AdapterMarkKind, name: str, message_id: str | None = None
) -> bool:
    """Keep in mind that something was received, or is about to be sent. False if it was marked before."""
    values = {
        "adapter_id": adapter_id,
        "name": name,
        "kind": kind,
        "message_id": message_id,
        "created_at": tx.now(),
    }
    made = tx.execute(insert(k).on_conflict_do_nothing().returning(k.c.name), values)
    return made.one_or_none() is not None


def unmark(tx: Transaction, adapter_id: str, name: str) -> None:
    """Forget a mark: it has become certain that nothing was sent."""
    tx.execute(sa.delete(k).where(k.c.adapter_id == adapter_id, k.c.name == name))


def forget_marks(tx: Transaction, *, limit: int = FORGOTTEN_AT_ONCE) -> int:
    """Delete marks that nobody looks for any more, some of them; how many."""
    is_old = k.c.created_at < tx.now() - MARKS_KEPT
    old = sa.select(k.c.adapter_id, k.c.name).where(is_old).limit(limit).cte("old")
    key = sa.tuple_(k.c.adapter_id, k.c.name)
    gone = tx.execute(sa.delete(k).where(key.in_(sa.select(old.c.adapter_id, old.c.name))))
    return gone.rowcount


_WITH_STATUS = sa.select(*_ADAPTER, *_STATUS).join_from(a, s, s.c.adapter_id == a.c.id, isouter=True)


def _known(row: Sequence[Any]) -> tuple[Adapter, AdapterStatus]:
    width = len(_ADAPTER)
    status = AdapterStatus() if row[width] is None else AdapterStatus(*row[width:])
    return Adapter(*row[:width]), status


def _values(adapter: Adapter) -> dict[str, Any]:
    return {
        "enabled": adapter.enabled,
        "config": dict(adapter.config),
        "secrets": dict(adapter.secrets),
        "updated_at": adapter.updated_at,
    }


def _told(adapter: Adapter) -> dict[str, object]:
    return {"type": adapter.type, "enabled": adapter.enabled}


def _error(error: str, now: datetime) -> dict[str, Any]:
    return {"error_count": s.c.error_count + 1, "last_error": _cut(error), "last_error_at": now}


def _cut(error: str) -> str:
    return error if len(error) <= _ERROR_LENGTH_MAX else f"{error[: _ERROR_LENGTH_MAX - 1]}…"
