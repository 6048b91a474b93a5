"""Everything of Relay: messages and where they lie, traces, access rules, adapters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from dorkos.db.legacy import adapters, rules, subscriptions, traces
from dorkos.db.legacy.deliveries import Delivery, Reconciler
from dorkos.db.legacy.endpoints import place
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.index_rows import IndexRow, read_index_rows
from dorkos.db.legacy.mailboxes import MAILBOXES, Folder, Mailboxes, read_mailboxes
from dorkos.db.legacy.report import Report
from dorkos.vocabulary import DeliveryStatus

Rows = dict[str, list[dict[str, object]]]

# Registered by every server of the lineage at its start.
_CONSOLE = "relay.system.console"


def collect(
    home: LegacyHome, report: Report, now: datetime, *, agents: Iterable[Mapping[str, object]]
) -> Rows:
    """Read all of it, as rows by table. Nothing is written or started.

    `agents` are the rows of agents that the import brings. `placing.fit` makes the rows match the target.
    """
    spans = traces.read(home, report, now)
    mailboxes = read_mailboxes(home.path, report)
    index_rows, kept = read_index_rows(home, report, now)
    reconciler = Reconciler(report, now, spans.chains())
    reconciler.join(mailboxes, index_rows)
    placed = place(
        reconciler.deliveries,
        subjects=_subjects(reconciler.deliveries, index_rows, spans.subjects()),
        agents=agents,
        now=now,
    )
    _tell(report, mailboxes, reconciler.deliveries, now)
    rule_rows, kept_rules = rules.collect(home, report, now)
    adapter_rows = adapters.collect(home, report, now)
    return {
        "relay_adapters": adapter_rows,
        "relay_endpoints": placed.endpoints,
        "relay_messages": reconciler.messages(),
        "relay_index": placed.deliveries,
        "relay_dead_letters": placed.dead_letters,
        "relay_traces": spans.rows(placed.by_subject),
        "relay_rules": rule_rows,
        "system_state": [
            *kept,
            *reconciler.kept(),
            *spans.kept(),
            *kept_rules,
            *subscriptions.collect(home, report),
        ],
    }


def _subjects(
    deliveries: Iterable[Delivery], rows: Iterable[IndexRow], traced: Iterable[str]
) -> Iterator[str]:
    """Every text that may be the subject of a mailbox. A wrong one does no harm: its hash differs."""
    yield _CONSOLE
    yield from traced
    for row in rows:
        yield from (row.subject, row.sender or "")
    for delivery in deliveries:
        envelope = delivery.envelope
        yield from (envelope.subject, envelope.sender or "", envelope.reply_to or "")
        yield from envelope.budget.ancestors


def _tell(report: Report, mailboxes: Mailboxes, deliveries: list[Delivery], now: datetime) -> None:
    """What a person should know of the mail before the fleet goes on."""
    if mailboxes.unfinished:
        report.note(
            f"{MAILBOXES}: {mailboxes.unfinished} unfinished writes in tmp/ were never accepted as messages "
            "and were left out."
        )
    taken = sum(1 for file in mailboxes.files if file.folder is Folder.CUR)
    if taken:
        report.note(f"{taken} messages were in a handler's hands when the old server ended; they wait again.")
    pending = [delivery for delivery in deliveries if delivery.status is DeliveryStatus.PENDING]
    late = sum(
        1 for each in pending if each.envelope.expires_at is not None and each.envelope.expires_at < now
    )
    if late:
        report.note(
            f"{late} of {len(pending)} waiting messages are past their expiry. It was not extended: they "
            "become dead letters, payload and all, and are not delivered."
        )
    bare = sum(1 for delivery in deliveries if MAILBOXES not in delivery.parts)
    if bare:
        report.note(f"{bare} deliveries are known from an index alone: their payloads went with their files.")
