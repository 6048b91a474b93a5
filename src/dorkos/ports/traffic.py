"""Who has sent to whom, from Relay's stored messages."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dorkos.db.schema.relay import relay_dead_letters, relay_messages
from dorkos.mesh.model import Source, Traffic

# So many of the newest messages are looked at: a picture of who talks to whom needs no more, and must not
# cost more where millions are stored.
_NEWEST = 20_000


class MailTraffic:
    """Counts messages by sender and recipient."""

    def traffic(self, source: Source, *, since: datetime) -> list[Traffic]:
        """Of the newest 20,000 messages those since an instant, the busiest pairs first."""
        newest = (
            sa.select(
                relay_messages.c.id,
                relay_messages.c.sender,
                relay_messages.c.subject,
                relay_messages.c.created_at,
            )
            .order_by(relay_messages.c.id.desc())
            .limit(_NEWEST)
            .subquery()
        )
        stopped = sa.exists().where(relay_dead_letters.c.message_id == newest.c.id)
        messages = sa.func.count()
        statement = (
            sa.select(
                newest.c.sender,
                newest.c.subject,
                messages.label("messages"),
                sa.func.sum(sa.case((stopped, 1), else_=0)).label("stopped"),
                sa.func.max(newest.c.created_at, type_=relay_messages.c.created_at.type).label("last_at"),
            )
            .where(newest.c.created_at >= since, newest.c.sender.is_not(None))
            .group_by(newest.c.sender, newest.c.subject)
            .order_by(messages.desc(), newest.c.sender, newest.c.subject)
        )
        return [
            Traffic(row.sender, row.subject, int(row.messages), int(row.stopped), row.last_at)
            for row in source.execute(statement)
        ]
