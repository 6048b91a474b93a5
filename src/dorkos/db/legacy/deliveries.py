"""Messages, deliveries and dead letters, from mailbox files and index rows that disagree.

The files are the truth and the index was derived from them, so the file decides where a message stands.
One message may lie in several mailboxes; (mailbox, file id) is the key of a delivery.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from dorkos.db.legacy.envelopes import TABLE, Budget, Envelope, id_of, read_envelope, time_of
from dorkos.db.legacy.ids import derived_id
from dorkos.db.legacy.index_rows import IndexRow
from dorkos.db.legacy.json_text import fits, fitted, text_of
from dorkos.db.legacy.mailboxes import MAILBOXES, Folder, Mailboxes, MailFile
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.stops import Stop, read_stop
from dorkos.db.legacy.values import Values
from dorkos.ids import is_ulid
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus

_GONE = "The lineage's file of this message was gone."
_LOST = "The lineage's file of this message could not be read."


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message in one mailbox, ready to be written. `parts` are the sources that tell of it."""

    id: str
    parts: tuple[str, ...]
    mailbox: str
    envelope: Envelope
    status: DeliveryStatus
    attempts: int
    stop: Stop | None
    # What orders the mailbox: when its file or row was made.
    accepted: tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A mailbox file with its index row, or either alone."""

    mailbox: str
    file_id: str
    file: MailFile | None
    row: IndexRow | None


class Reconciler:
    """Joins files and rows. `deliveries` are in a stable order; `kept` is for `system_state`."""

    def __init__(self, report: Report, now: datetime, chains: Mapping[str, str]) -> None:
        """`chains` says under which chain a message was traced, by its id."""
        self._report = report
        self._now = now
        self._chains = chains
        self._values = Values(report, MAILBOXES, now=now, from_json=True)
        self._ids: set[str] = set()
        self._messages: dict[str, list[Delivery]] = {}
        self.deliveries: list[Delivery] = []

    def join(self, mailboxes: Mailboxes, rows: Iterable[IndexRow]) -> None:
        """Bring every file and every row into `deliveries`."""
        by_key = {(row.mailbox, row.file_id): row for row in rows}
        copies = [
            _Copy(file.mailbox, file.file_id, file, by_key.pop((file.mailbox, file.file_id), None))
            for file in mailboxes.files
        ]
        # Of refusals that share an id the one that the index names keeps it; and files come before rows
        # alone, since a row whose message lies elsewhere is a copy of that message.
        copies.sort(key=lambda copy: (copy.row is None, copy.mailbox, copy.file_id))
        copies.extend(_Copy(row.mailbox, row.file_id, None, row) for row in by_key.values())
        for copy in copies:
            if copy.file is not None:
                self._add_file(copy, copy.file)
            elif copy.row is not None:
                self._add_row(copy.row, is_lost=(copy.mailbox, copy.file_id) in mailboxes.lost)

    def kept(self) -> list[dict[str, object]]:
        """Originals of values that were replaced, as rows of `system_state`."""
        return self._values.rows()

    def messages(self) -> list[dict[str, object]]:
        """The rows of `relay_messages`."""
        return [self._message(copies) for copies in self._messages.values()]

    def _add_file(self, copy: _Copy, file: MailFile) -> None:
        try:
            envelope = read_envelope(self._values, file)
        except RecursionError:
            where = f"{MAILBOXES}/{file.mailbox}/{file.folder}/{file.file_id}.json"
            self._report.unreadable(MAILBOXES, where, "it is nested too deeply")
            return
        if copy.row is not None:
            envelope = _with_row(envelope, copy.row)
        is_failed = file.folder is Folder.FAILED
        stop = read_stop(self._values, file, envelope) if is_failed else None
        was_handled = is_failed and not file.was_refused
        self._add(
            copy,
            (MAILBOXES,) if copy.row is None else (MAILBOXES, copy.row.part),
            envelope,
            DeliveryStatus.FAILED if is_failed else DeliveryStatus.PENDING,
            attempts=int(was_handled or file.folder is Folder.CUR),
            stop=stop,
        )

    def _add_row(self, row: IndexRow, *, is_lost: bool) -> None:
        envelope = self._envelope_of(row)
        status, stop = row.status, None
        if status is not DeliveryStatus.DELIVERED:
            # Without its file nobody can ever take it: it ended, and a person may look at it.
            why = _LOST if is_lost else _GONE
            stop = Stop(DeadLetterReason.REJECTED, f"{why} Its index said {row.status}.", row.created_at)
            status = DeliveryStatus.FAILED
        copy = _Copy(row.mailbox, row.file_id, None, row)
        attempts = int(status is DeliveryStatus.DELIVERED)
        self._add(copy, (row.part,), envelope, status, attempts=attempts, stop=stop)

    def _envelope_of(self, row: IndexRow) -> Envelope:
        """What a row alone tells of its message."""
        at = row.told_at or time_of(row.file_id)
        message_id = id_of(self._values, TABLE, row.file_id, at)
        metadata = {} if row.metadata is None else {"index": {"metadata": row.metadata}}
        envelope = Envelope(
            id=message_id,
            subject=row.subject,
            sender=row.sender,
            reply_to=None,
            payload=self._row_payload(message_id, row.payload),
            budget=Budget(hop_count=0, max_hops=5, calls_left=None, ancestors=()),
            expires_at=row.expires_at,
            created_at=row.created_at,
            told_at=at,
            metadata=metadata,
        )
        known = self._messages.get(message_id)
        # The row of a refusal names one of its mailboxes; the file may lie in another.
        return known[0].envelope if known and known[0].envelope.subject == row.subject else envelope

    def _row_payload(self, message_id: str, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            return text_of(json.loads(text)) or json.dumps(text)
        except (ValueError, RecursionError):
            self._values.keep(TABLE, message_id, "payload", text, "was not JSON and is a JSON text of it")
            return json.dumps(text)

    def _add(
        self,
        copy: _Copy,
        parts: tuple[str, ...],
        envelope: Envelope,
        status: DeliveryStatus,
        *,
        attempts: int,
        stop: Stop | None,
    ) -> None:
        envelope = self._place(copy, envelope)
        delivery = Delivery(
            id=self._delivery_id(copy, envelope),
            parts=parts,
            mailbox=copy.mailbox,
            envelope=envelope,
            status=status,
            attempts=attempts,
            stop=stop,
            accepted=(time_of(copy.file_id) or envelope.created_at, copy.file_id),
        )
        self._messages.setdefault(envelope.id, []).append(delivery)
        self.deliveries.append(delivery)

    def _place(self, copy: _Copy, envelope: Envelope) -> Envelope:
        """The envelope under an id that it can have: one message has one envelope and one copy a mailbox."""
        known = self._messages.get(envelope.id, [])
        if not known:
            return envelope
        if known[0].envelope.is_same_as(envelope) and all(each.mailbox != copy.mailbox for each in known):
            return envelope
        # A hand-made or restored file: kept as a message of its own.
        new_id = derived_id(f"{TABLE}:{copy.mailbox}/{copy.file_id}", envelope.told_at)
        became = "was also the id of another message, or lay twice in one mailbox, and was replaced"
        self._values.keep(TABLE, new_id, "id", envelope.id, became)
        return replace(envelope, id=new_id)

    def _delivery_id(self, copy: _Copy, envelope: Envelope) -> str:
        new_id = copy.file_id
        if not is_ulid(new_id) or new_id in self._ids:
            new_id = derived_id(f"relay_index:{copy.mailbox}/{copy.file_id}", envelope.told_at)
            if not is_ulid(copy.file_id):
                self._values.keep("relay_index", new_id, "id", copy.file_id, "was no ULID and was replaced")
        while new_id in self._ids:  # The same file id twice in one mailbox, in two of its folders.
            new_id = derived_id(f"relay_index:{new_id}", envelope.told_at)
        self._ids.add(new_id)
        return new_id

    def _message(self, copies: list[Delivery]) -> dict[str, object]:
        # The copy that has come furthest: what answers it must not gain a hop.
        envelope = max((copy.envelope for copy in copies), key=lambda each: each.budget.hop_count)
        metadata = dict(envelope.metadata)
        for copy in copies:
            if "index" in copy.envelope.metadata:
                metadata["index"] = copy.envelope.metadata["index"]
        budgets = {copy.mailbox: copy.envelope.budget for copy in copies}
        ancestors = envelope.budget.ancestors
        if len(set(budgets.values())) > 1:
            # Each mailbox's copy ends with that mailbox; before it all have gone the same way.
            ancestors = _common([budget.ancestors for budget in budgets.values()])
            metadata["budgets"] = {
                mailbox: {
                    "hopCount": budget.hop_count,
                    "maxHops": budget.max_hops,
                    "callBudgetRemaining": budget.calls_left,
                    "ancestorChain": list(budget.ancestors),
                }
                for mailbox, budget in sorted(budgets.items())
            }
        return {
            "id": envelope.id,
            "subject": envelope.subject,
            "sender": envelope.sender,
            "reply_to": envelope.reply_to,
            "payload": envelope.payload,
            "bytes": 0 if envelope.payload is None else len(envelope.payload.encode()),
            "chain_id": self._chains.get(envelope.id, envelope.id),
            "hop_count": envelope.budget.hop_count,
            "max_hops": envelope.budget.max_hops,
            "calls_left": envelope.budget.calls_left,
            "ancestors": list(ancestors),
            "expires_at": envelope.expires_at,
            "metadata": self._storable(envelope.id, metadata) or None,
            "created_at": envelope.created_at,
        }

    def _storable(self, message_id: str, metadata: dict[str, object]) -> object:
        if not fits(metadata):
            self._values.keep(TABLE, message_id, "metadata", metadata, "held what no JSON column can hold")
        return fitted(metadata)


def _with_row(envelope: Envelope, row: IndexRow) -> Envelope:
    """The envelope with what its index row alone held: the stores never wrote that, but might have."""
    beside = {"payload": row.payload, "metadata": row.metadata}
    told = {name: text for name, text in beside.items() if text is not None}
    return replace(envelope, metadata={**envelope.metadata, "index": told}) if told else envelope


def _common(chains: list[tuple[str, ...]]) -> tuple[str, ...]:
    shared: list[str] = []
    for tokens in zip(*chains, strict=False):
        if len(set(tokens)) > 1:
            break
        shared.append(tokens[0])
    return tuple(shared)
