"""Reading the lineage's message index in all its shapes.

Three databases may hold one: `relay/index.db` as it was made by hand (`messages`), the same file after a
newer server put its own tables into it (`relay_index`), and `dork.db`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.rows import key_of
from dorkos.db.legacy.values import Values, read_instant
from dorkos.vocabulary import DeliveryStatus

# Newest first: where two name the same delivery, the first one stands.
_SOURCES = (("dork.db", "relay_index"), ("relay/index.db", "relay_index"), ("relay/index.db", "messages"))
_TABLE = "relay_index"
_STATUS = {
    "new": DeliveryStatus.PENDING,
    "cur": DeliveryStatus.DELIVERED,
    "pending": DeliveryStatus.PENDING,
    "delivered": DeliveryStatus.DELIVERED,
    "failed": DeliveryStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One row of an index. `sender` is None where the table has no such column."""

    part: str
    mailbox: str
    file_id: str
    subject: str
    sender: str | None
    status: DeliveryStatus
    payload: str | None
    metadata: str | None
    expires_at: datetime | None
    created_at: datetime
    # None where the row tells no time that could be read: then `created_at` is the time of the import.
    told_at: datetime | None


def read_index_rows(
    home: LegacyHome, report: Report, now: datetime
) -> tuple[list[IndexRow], list[dict[str, object]]]:
    """Every row of every index, and what was kept of values that could not stand, for `system_state`."""
    rows: dict[tuple[str, str], IndexRow] = {}
    kept: list[dict[str, object]] = []
    for database_name, table in _SOURCES:
        database = home.database(database_name)
        if database is None or table not in database.tables():
            continue
        part = f"{database_name} {table}"
        values = Values(report, part, now=now)
        report.found(part, 0)
        for number, row in enumerate(database.rows(table)):
            report.found(part)
            read = _read(values, part, row, number)
            if rows.setdefault((read.mailbox, read.file_id), read) is not read:
                report.already(part)
        kept.extend(values.rows())
    return list(rows.values()), kept


def _read(values: Values, part: str, row: Mapping[str, object], number: int) -> IndexRow:
    file_id = key_of(row.get("id"), number)
    expiry = row["ttl"] if "ttl" in row else row.get("expires_at")
    created_at = row.get("created_at")
    return IndexRow(
        part=part,
        mailbox=values.required(_TABLE, file_id, "endpoint_hash", row.get("endpoint_hash")),
        file_id=file_id,
        subject=values.required(_TABLE, file_id, "subject", row.get("subject")),
        sender=values.text(_TABLE, file_id, "sender", row.get("sender")),
        status=values.word(
            _TABLE, file_id, "status", row.get("status"), _STATUS, otherwise=DeliveryStatus.FAILED
        ),
        payload=values.text(_TABLE, file_id, "payload", row.get("payload")),
        metadata=values.text(_TABLE, file_id, "metadata", row.get("metadata")),
        expires_at=values.optional_instant(_TABLE, file_id, "expires_at", expiry),
        created_at=values.instant(_TABLE, file_id, "created_at", created_at),
        told_at=read_instant(created_at),
    )
