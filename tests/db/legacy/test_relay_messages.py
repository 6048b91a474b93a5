"""Mailbox files and index rows of the fixture homes, value by value."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dorkos.clock import from_iso
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, EndpointConsumer
from tests.db.legacy.relay_kit import HOMES, collected, expected, expected_files, expected_rows

pytestmark = pytest.mark.parametrize("home", HOMES)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = {
    "new": DeliveryStatus.PENDING,
    "cur": DeliveryStatus.PENDING,
    "failed": DeliveryStatus.FAILED,
}
_REASONS = {
    "no matching endpoints": DeadLetterReason.NO_RECIPIENT,
    "message expired (TTL)": DeadLetterReason.EXPIRED,
    "max hops exceeded (5/5)": DeadLetterReason.HOPS_EXCEEDED,
    "cycle detected: relay.team.frontend already in chain": DeadLetterReason.CYCLE,
    "call budget exhausted": DeadLetterReason.BUDGET_EXCEEDED,
    "handler failed": DeadLetterReason.REJECTED,
    "Erreur : délai dépassé ⏱\nligne 2": DeadLetterReason.REJECTED,
    "TypeError: Cannot read properties of undefined (reading 'id')": DeadLetterReason.REJECTED,
}


def _instant_of(ttl: int | None) -> datetime | None:
    return None if ttl is None else _EPOCH + timedelta(milliseconds=ttl)


def _by_envelope(home: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for mailbox, _, _, envelope in expected_files(home):
        found.setdefault(envelope["id"], []).append((mailbox, envelope))
    return found


def test_every_file_is_a_delivery_that_stands_where_the_file_lay(home: str) -> None:
    """New and cur wait (cur was claimed once), failed failed; no file is missing and none is twice."""
    read = collected(home)
    seen = set()
    for mailbox, folder, file_id, envelope in expected_files(home):
        row = read.delivery(mailbox, envelope["id"])
        seen.add(row["id"])
        was_handled = folder == "cur" or (folder == "failed" and file_id != envelope["id"])
        assert row["status"] is _STATUS[folder]
        assert row["attempts"] == int(was_handled)
        assert row["expires_at"] == _instant_of(envelope["budget"].get("ttl"))
        assert row["created_at"] == row["available_at"] == from_iso(envelope["createdAt"])
    assert len(seen) == len(expected_files(home))


def test_a_delivery_keeps_the_id_of_its_file(home: str) -> None:
    """Only a message that was refused in three mailboxes under one id needs two further ids."""
    read = collected(home)
    named_by_index = {
        (row["endpoint_hash"], row["id"]) for _, row in expected_rows(home, "messages", "relay_index")
    }
    ids = [file_id for _, _, file_id, _ in expected_files(home)]
    changed = 0
    for mailbox, _, file_id, envelope in expected_files(home):
        row = read.delivery(mailbox, envelope["id"])
        if row["id"] == file_id:
            assert ids.count(file_id) == 1 or (mailbox, file_id) in named_by_index
        else:
            assert ids.count(file_id) == 3
            changed += 1
    assert changed == 2


def test_every_message_is_one_row_with_the_values_of_its_files(home: str) -> None:
    """However many mailboxes it went to: subject, sender, reply address, payload, budget and times."""
    messages = collected(home).by_id("relay_messages")
    for message_id, copies in _by_envelope(home).items():
        row = messages[message_id]
        _, envelope = copies[0]
        budget = envelope["budget"]
        assert row["subject"] == envelope["subject"]
        assert row["sender"] == envelope["from"]
        assert row["reply_to"] == envelope.get("replyTo")
        assert row["created_at"] == from_iso(envelope["createdAt"])
        assert row["expires_at"] == _instant_of(budget.get("ttl"))
        assert row["hop_count"] == budget["hopCount"]
        assert row["max_hops"] == budget["maxHops"]
        assert row["calls_left"] == budget["callBudgetRemaining"]
        assert row["chain_id"] == message_id


def test_every_payload_is_the_one_of_its_file(home: str) -> None:
    """Parsed from our column it equals the file's, whatever it is; none at all is NULL, and null is not."""
    messages = collected(home).by_id("relay_messages")
    for message_id, copies in _by_envelope(home).items():
        row = messages[message_id]
        for _, envelope in copies:
            if "payload" not in envelope:
                assert row["payload"] is None
                assert row["bytes"] == 0
            else:
                assert json.loads(row["payload"]) == envelope["payload"]
                assert row["bytes"] == len(row["payload"].encode("utf-8"))
                assert "\x00" not in row["payload"]


def test_ancestors_are_the_way_that_a_message_has_gone(home: str) -> None:
    """Where each copy ends with its own mailbox, the message holds what they share, and each stays told."""
    messages = collected(home).by_id("relay_messages")
    for message_id, copies in _by_envelope(home).items():
        row = messages[message_id]
        chains = {mailbox: envelope["budget"]["ancestorChain"] for mailbox, envelope in copies}
        if len({tuple(chain) for chain in chains.values()}) == 1:
            assert row["ancestors"] == copies[0][1]["budget"]["ancestorChain"]
        else:
            assert all(chain[:-1] == row["ancestors"] for chain in chains.values())
            told = row["metadata"]["budgets"]
            assert {mailbox: budget["ancestorChain"] for mailbox, budget in told.items()} == chains


def test_every_failed_file_is_a_dead_letter_with_its_words(home: str) -> None:
    """The reason is one of the closed list, what the lineage said stays as the detail, with its time."""
    read = collected(home)
    letters = {(row["endpoint_id"], row["message_id"]): row for row in read.rows["relay_dead_letters"]}
    count = 0
    for mailbox, folders in expected(home)["mailboxes"].items():
        for held in folders["failed"].values():
            told = held["reason_file"]
            row = letters[read.mailbox(mailbox)["id"], held["envelope"]["id"]]
            assert row["reason"] is _REASONS[told["reason"]]
            assert row["detail"] == told["reason"]
            assert row["created_at"] == from_iso(told["failedAt"])
            count += 1
    assert count == len(letters) == len(read.by_id("relay_dead_letters"))


def test_every_index_row_of_every_database_is_a_delivery(home: str) -> None:
    """Under its own id, in its own mailbox; one without a file was handled, and its payload is gone."""
    read = collected(home)
    deliveries = read.by_id("relay_index")
    messages = read.by_id("relay_messages")
    files = {(mailbox, file_id) for mailbox, _, file_id, _ in expected_files(home)}
    without = 0
    for _, stored in expected_rows(home, "messages", "relay_index"):
        row = deliveries[stored["id"]]
        assert row["endpoint_id"] == read.mailbox(stored["endpoint_hash"])["id"]
        message = messages[row["message_id"]]
        assert message["subject"] == stored["subject"]
        assert message["created_at"] == row["created_at"] == from_iso(stored["created_at"])
        if "sender" in stored:
            assert message["sender"] == stored["sender"]
        elif stored["expires_at"] is not None:
            assert row["expires_at"] == from_iso(stored["expires_at"])
        if (stored["endpoint_hash"], stored["id"]) not in files:
            assert stored["status"] in ("cur", "delivered")
            assert row["status"] is DeliveryStatus.DELIVERED
            assert message["id"] == message["chain_id"] == stored["id"]
            assert message["payload"] is None
            assert message["sender"] == stored.get("sender")
            without += 1
    assert without == len(expected(home)["index_rows_without_mailbox_file"])
    assert len(deliveries) == len(expected_files(home)) + without


def test_every_mailbox_has_its_subject_back(home: str) -> None:
    """The hash proves it, also for mailboxes that only an index knows; agents own theirs."""
    read = collected(home)
    for name, folders in expected(home)["mailboxes"].items():
        assert read.mailbox(name)["subject"] == folders["endpoint_subject_recovered_from_files"]
    assert read.mailbox("11308c3e9037")["subject"] == "relay.human.console.ada"
    for row in read.rows["relay_endpoints"]:
        assert hashlib.sha256(row["subject"].encode()).hexdigest()[:12] == row["hash"]
        assert row["consumer"] is EndpointConsumer.CLAIM
        is_agents = row["subject"].startswith("relay.agent.")
        assert row["agent_id"] == (row["subject"].rpartition(".")[2] if is_agents else None)


def test_mailboxes_count_what_waits_in_the_order_of_acceptance(home: str) -> None:
    """Positions begin at 1 and follow the time of the files; count and bytes are those of what is pending."""
    read = collected(home)
    messages = read.by_id("relay_messages")
    for mailbox in read.rows["relay_endpoints"]:
        lying = [row for row in read.rows["relay_index"] if row["endpoint_id"] == mailbox["id"]]
        lying.sort(key=lambda row: row["position"])
        assert [row["position"] for row in lying] == list(range(1, len(lying) + 1))
        assert mailbox["position"] == len(lying)
        assert [row["created_at"] for row in lying] == sorted(row["created_at"] for row in lying)
        pending = [row for row in lying if row["status"] is DeliveryStatus.PENDING]
        assert mailbox["pending_count"] == len(pending)
        assert mailbox["pending_bytes"] == sum(messages[row["message_id"]]["bytes"] for row in pending)


def test_a_mailbox_that_nobody_ever_opened_is_closed(home: str) -> None:
    """A message to nobody was filed under what it asked for; sending there still finds no recipient."""
    read = collected(home)
    for mailbox in read.rows["relay_endpoints"]:
        folders = expected(home)["mailboxes"].get(mailbox["hash"])
        reasons = {held["reason_file"]["reason"] for held in folders["failed"].values()} if folders else set()
        nobody = (
            bool(folders)
            and not folders["new"]
            and not folders["cur"]
            and reasons == {"no matching endpoints"}
        )
        assert (mailbox["closed_at"] is not None) == nobody


def test_nothing_of_an_envelope_is_lost_without_a_word(home: str) -> None:
    """The fixtures hold nothing that our columns could not hold, so nothing is kept aside."""
    read = collected(home)
    assert read.report.values == []
    assert read.report.left_out == []
    assert [row["key"] for row in read.rows["system_state"]] == ["lineage:subscriptions"]


def test_unfinished_writes_are_no_messages(home: str) -> None:
    """A file in tmp/ was never accepted: it is told, and left out."""
    unfinished = sum(len(folders["tmp"]) for folders in expected(home)["mailboxes"].values())
    read = collected(home)
    told = [note for note in read.report.notes if "tmp/" in note]
    assert len(told) == min(unfinished, 1)
    for folders in expected(home)["mailboxes"].values():
        for envelope in folders["tmp"].values():
            assert envelope["id"] not in read.by_id("relay_messages")
