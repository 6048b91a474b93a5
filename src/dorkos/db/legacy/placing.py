"""Fitting the rows of old mailboxes to a database that has mailboxes already, such as the console's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from dorkos.db.schema.mesh import agents as a
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.vocabulary import DeliveryStatus

Rows = Mapping[str, Sequence[Mapping[str, object]]]

# Both engines bound the number of parameters of one statement.
_CHUNK = 500


def fit(connection: sa.Connection, collected: Rows) -> dict[str, list[dict[str, object]]]:
    """The collected rows as the target can take them: call it after the agents were written.

    A mailbox that the target has under its own id keeps that id, and what is added stands behind what lies
    there. Mailboxes refer to agents only as far as those exist. Other tables' rows stay as they are.
    The mailboxes stay locked until the transaction ends, so that nobody takes a place meanwhile.
    """
    rows = {table: [dict(row) for row in each] for table, each in collected.items()}
    endpoints = rows.get("relay_endpoints", [])
    there = {
        row.subject: row
        for chunk in _chunks([str(endpoint["subject"]) for endpoint in endpoints])
        for row in connection.execute(
            sa.select(e.c.id, e.c.subject, e.c.position).where(e.c.subject.in_(chunk)).with_for_update()
        )
    }
    ours = {
        endpoint["id"]: there[endpoint["subject"]] for endpoint in endpoints if endpoint["subject"] in there
    }
    rows["relay_endpoints"] = [endpoint for endpoint in endpoints if endpoint["id"] not in ours]
    known_agents = set(connection.scalars(sa.select(a.c.id)))
    for endpoint in rows["relay_endpoints"]:
        if endpoint["agent_id"] not in known_agents:
            endpoint["agent_id"] = None
    for table in ("relay_index", "relay_dead_letters", "relay_traces"):
        for row in rows.get(table, []):
            mine = ours.get(row["endpoint_id"])
            if mine is not None:
                row["endpoint_id"] = mine.id
                if table == "relay_index":
                    row["position"] = int(str(row["position"])) + mine.position
    return rows


def recount(connection: sa.Connection, rows: Rows) -> None:
    """Set what each mailbox says of itself to what lies in it, after the rows of `fit` were written.

    Harmless to repeat: positions only grow, and an equal count stays as it is.
    """
    touched = {str(row["endpoint_id"]) for row in rows.get("relay_index", [])}
    pending = sa.and_(i.c.endpoint_id == e.c.id, i.c.status == DeliveryStatus.PENDING)
    last = sa.select(sa.func.max(i.c.position)).where(i.c.endpoint_id == e.c.id).scalar_subquery()
    count = sa.select(sa.func.count()).select_from(i).where(pending).scalar_subquery()
    size = (
        sa.select(sa.func.coalesce(sa.func.sum(m.c.bytes), 0))
        .join_from(i, m, m.c.id == i.c.message_id)
        .where(pending)
        .scalar_subquery()
    )
    for chunk in _chunks(sorted(touched)):
        connection.execute(
            sa.update(e)
            .where(e.c.id.in_(chunk))
            .values(
                position=sa.case((last > e.c.position, last), else_=e.c.position),
                pending_count=count,
                pending_bytes=sa.cast(size, sa.BigInteger),
            )
        )


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
