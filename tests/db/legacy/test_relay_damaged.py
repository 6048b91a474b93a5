"""Homes that somebody or something has damaged: what can be read comes over, the rest is named."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dorkos.ids import is_ulid
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, TraceStatus
from tests.db.legacy.relay_kit import collect, collected, copy_of

_HOME = "home-three-databases"
_CONSOLE = "8806c7805369"
_MAILBOXES = "relay/mailboxes"


def _mailbox(home: Path, name: str, folder: str) -> Path:
    return home / _MAILBOXES / name / folder


def _write(home: Path, file_id: str, envelope: object, *, name: str = _CONSOLE, folder: str = "new") -> Path:
    place = _mailbox(home, name, folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{file_id}.json"
    path.write_text(json.dumps(envelope), "utf-8")
    return path


def _envelope(**changed: Any) -> dict[str, Any]:
    budget = {"hopCount": 1, "maxHops": 5, "ancestorChain": [], "ttl": 1, "callBudgetRemaining": 9}
    return {
        "id": "01KJ7J050859WQ11G6SZW0AAAA",
        "subject": "relay.system.console",
        "from": "relay.human.ada",
        "budget": budget,
        "createdAt": "2026-02-24T10:00:00.000Z",
        "payload": 1,
    } | changed


def _index(home: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(home / "relay/index.db")) as connection, connection:
        connection.execute(statement, values)


def test_a_file_cut_in_half_leaves_its_index_row_as_a_dead_letter(tmp_path: Path) -> None:
    """Nobody could ever take it, so it does not wait; all others come as before."""
    home = copy_of(_HOME, tmp_path)
    path = _mailbox(home, _CONSOLE, "new") / "01KJ7J050XHEJQ7KYB5B1AE0G6.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = collect(home)
    (item,) = read.report.left_out
    assert item.where == str(path)
    assert "not JSON" in item.why
    row = read.by_id("relay_index")["01KJ7J050XHEJQ7KYB5B1AE0G6"]
    assert row["status"] is DeliveryStatus.FAILED
    letter = read.by_id("relay_dead_letters")[row["id"]]
    assert letter["reason"] is DeadLetterReason.REJECTED
    assert "could not be read" in letter["detail"]
    assert len(read.rows["relay_index"]) == len(collected(_HOME).rows["relay_index"])


def test_a_failed_file_cut_in_half_is_read_from_the_file_with_its_reason(tmp_path: Path) -> None:
    """A dead letter's envelope was written twice."""
    home = copy_of(_HOME, tmp_path)
    path = _mailbox(home, "f4786fcd7f4c", "failed") / "01KJ7NZQYD13KNMHCM0VNX70PX.json"
    path.write_bytes(path.read_bytes()[:40])
    read = collect(home)
    assert read.rows["relay_messages"] == collected(_HOME).rows["relay_messages"]
    assert read.rows["relay_dead_letters"] == collected(_HOME).rows["relay_dead_letters"]
    assert any(str(path) in note for note in read.report.notes)
    path.unlink()
    assert collect(home).rows["relay_messages"] == read.rows["relay_messages"]


def test_a_failed_file_without_its_reason_stopped_for_an_unknown_one(tmp_path: Path) -> None:
    """At the time of its message; that the reason is missing is told."""
    home = copy_of(_HOME, tmp_path)
    (_mailbox(home, "f4786fcd7f4c", "failed") / "01KJ7NZQYD13KNMHCM0VNX70PX.reason.json").unlink()
    read = collect(home)
    letter = read.by_id("relay_dead_letters")["01KJ7NZQYD13KNMHCM0VNX70PX"]
    assert letter["detail"] == "unknown"
    assert letter["reason"] is DeadLetterReason.REJECTED
    assert letter["created_at"] == read.by_id("relay_messages")[letter["message_id"]]["created_at"]
    assert [value.column for value in read.report.values] == ["detail"]


def test_a_reason_that_is_no_json_is_reported(tmp_path: Path) -> None:
    """The message itself comes over."""
    home = copy_of(_HOME, tmp_path)
    path = _mailbox(home, "f4786fcd7f4c", "failed") / "01KJ7NZQYD13KNMHCM0VNX70PX.reason.json"
    path.write_text("{", "utf-8")
    read = collect(home)
    assert [item.where for item in read.report.left_out] == [str(path)]
    assert "01KJ7NZQYD13KNMHCM0VNX70PX" in read.by_id("relay_dead_letters")


@pytest.mark.parametrize("content", ["", "[]", "7", "null", "{}", '{"subject": 5}', '{"a": NaN}', "[" * 5000])
def test_what_is_no_message_is_reported_by_its_path(tmp_path: Path, content: str) -> None:
    """And costs nothing else."""
    good = _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope())
    bad = good.with_name("01KJ7J050XHEJQ7KYB5B1AE0G7.json")
    bad.write_text(content, "utf-8")
    read = collect(tmp_path)
    assert [item.where for item in read.report.left_out] == [str(bad)]
    assert len(read.rows["relay_messages"]) == 1


def test_what_is_not_named_like_a_message_is_passed_over(tmp_path: Path) -> None:
    """It never was one."""
    path = _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope())
    path.with_name(".DS_Store.json").write_text("x", "utf-8")
    path.with_name("notes.txt").write_text("x", "utf-8")
    read = collect(tmp_path)
    assert len(read.rows["relay_index"]) == 1
    assert read.report.left_out == []


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    """The lineage would have read U+FFFD there, and so do we; the file's bytes stay."""
    path = _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope(payload="X"))
    path.write_bytes(path.read_bytes().replace(b'"X"', b'"\xff"'))
    read = collect(tmp_path)
    (message,) = read.rows["relay_messages"]
    assert json.loads(message["payload"]) == "\ufffd"
    (kept,) = read.rows["system_state"]
    assert kept["key"] == f"lineage:relay_messages:{message['id']}:file"
    assert kept["value"] == f"X'{path.read_bytes().hex()}'"


@pytest.mark.parametrize(
    ("changed", "column", "value"),
    [
        ({"from": "a\ud83d"}, "sender", "a\ufffd"),
        ({"replyTo": "a\x00"}, "reply_to", "a\ufffd"),
        ({"from": 7}, "sender", "7"),
        ({"createdAt": "yesterday"}, "created_at", None),
        ({"budget": None}, "max_hops", 5),
        ({"budget": {"hopCount": "two"}}, "hop_count", 0),
        ({"budget": {"ancestorChain": "a"}}, "ancestors", []),
        ({"budget": {"ancestorChain": ["\ud83d"]}}, "ancestors", ["\ufffd"]),
        ({"budget": {"ttl": "soon"}}, "expires_at", None),
        ({"budget": {"ttl": 1e300}}, "expires_at", None),
        ({"budget": {"callBudgetRemaining": 2**70}}, "calls_left", None),
        ({"id": "not-a-ulid"}, "subject", "relay.system.console"),
        ({"unknown": "\ud83d"}, "metadata", {"envelope": {"unknown": "\ufffd"}}),
    ],
)
def test_a_value_that_no_column_can_hold_is_kept(
    tmp_path: Path, changed: dict[str, Any], column: str, value: object
) -> None:
    """Its safest reading stands in the column, the original in `system_state`, and the report says so."""
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope(**changed))
    read = collect(tmp_path)
    (message,) = read.rows["relay_messages"]
    if value is not None or column == "expires_at":
        assert message[column] == value
    assert is_ulid(message["id"])
    assert len(read.report.values) == len(read.rows["system_state"]) == 1


@pytest.mark.parametrize("payload", [float("inf"), [[[[1e999]]]], json.loads("[" * 150 + "]" * 150)])
def test_a_payload_that_readers_could_not_take_becomes_its_text(tmp_path: Path, payload: object) -> None:
    """Beyond a double, or too deep."""
    path = _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope())
    text = json.dumps(payload).replace("Infinity", "1e999")
    path.write_text(path.read_text("utf-8").replace('"payload": 1', f'"payload": {text}'), "utf-8")
    read = collect(tmp_path)
    (message,) = read.rows["relay_messages"]
    assert isinstance(json.loads(message["payload"]), str)
    assert [value.column for value in read.report.values] == ["payload"]


def test_unknown_fields_go_along(tmp_path: Path) -> None:
    """Of the envelope and of its budget."""
    budget = _envelope()["budget"] | {"spend": 4}
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope(budget=budget, topic="t"))
    (message,) = collect(tmp_path).rows["relay_messages"]
    assert message["metadata"] == {"envelope": {"topic": "t"}, "budget": {"spend": 4}}


def test_two_messages_of_one_id_stay_two(tmp_path: Path) -> None:
    """A file that somebody edited, and one that lies twice in a mailbox."""
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope())
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G7", _envelope(payload=2), name="f4786fcd7f4c")
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope(), folder="cur")
    read = collect(tmp_path)
    assert sorted(json.loads(row["payload"]) for row in read.rows["relay_messages"]) == [1, 1, 2]
    assert len(read.by_id("relay_messages")) == len(read.by_id("relay_index")) == 3


def test_a_mailbox_whose_subject_nobody_knows_keeps_its_hash(tmp_path: Path) -> None:
    """What waits there can still be claimed, under a subject made of the hash."""
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G6", _envelope(), name="0123456789ab")
    _write(tmp_path, "01KJ7J050XHEJQ7KYB5B1AE0G7", _envelope(), name="a name of spaces")
    read = collect(tmp_path)
    assert read.mailbox("0123456789ab")["subject"] == "lineage.0123456789ab"
    assert read.mailbox("0123456789ab")["closed_at"] is None
    assert read.mailbox("a name of spaces")["subject"].startswith("lineage.")
    assert " " not in read.mailbox("a name of spaces")["subject"]


def test_an_index_row_with_anything_in_it_comes_over(tmp_path: Path) -> None:
    """Blobs, numbers, unknown words and wrong bytes: kept word for word, with a reading that is safe."""
    home = copy_of(_HOME, tmp_path)
    insert = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)"
    _index(home, insert, b"\xff\x00", b"\xfe", b"\xfd", "11308c3e9037", "lost", "never", "x")
    _index(home, insert, b"\xfe\x00", "s", "f", "11308c3e9037", "new", "2026-02-24T10:00:00.000Z", 5)
    read = collect(home)
    assert len(read.rows["relay_index"]) == len(collected(_HOME).rows["relay_index"]) + 2
    assert len(read.by_id("relay_index")) == len(read.rows["relay_index"])
    assert all(is_ulid(row["id"]) for row in read.rows["relay_index"])
    assert (
        read.mailbox("11308c3e9037")["position"] == collected(_HOME).mailbox("11308c3e9037")["position"] + 2
    )
    assert {value.column for value in read.report.values} == {
        "id",
        "subject",
        "sender",
        "status",
        "created_at",
        "expires_at",
    }
    assert read.report.left_out == []


def test_a_waiting_row_without_a_file_does_not_wait(tmp_path: Path) -> None:
    """There is nothing to hand out; a dead letter shows it to a person."""
    home = copy_of(_HOME, tmp_path)
    (_mailbox(home, _CONSOLE, "new") / "01KJ7J050XHEJQ7KYB5B1AE0G6.json").unlink()
    read = collect(home)
    letter = read.by_id("relay_dead_letters")["01KJ7J050XHEJQ7KYB5B1AE0G6"]
    assert "was gone" in letter["detail"]
    message = read.by_id("relay_messages")[letter["message_id"]]
    assert message["sender"] == "relay.team.ops"
    assert message["payload"] is None


def test_a_trace_with_anything_in_it_comes_over(tmp_path: Path) -> None:
    """An unknown status is a failure, a time that is none becomes that of the import; originals are kept."""
    home = copy_of(_HOME, tmp_path)
    _index(
        home,
        "INSERT INTO message_traces (message_id, trace_id, span_id, subject, from_endpoint, to_endpoint, "
        "status, sent_at) VALUES ('m', 't', 'no uuid', 's', 'f', x'ff', 'odd', 'then')",
    )
    read = collect(home)
    (row,) = (row for row in read.rows["relay_traces"] if row["message_id"] == "m")
    assert row["status"] is TraceStatus.FAILED
    assert is_ulid(row["id"])
    assert {value.column for value in read.report.values} == {"id", "status", "sent_at", "toEndpoint"}


def test_an_index_that_is_no_database_costs_only_itself(tmp_path: Path) -> None:
    """The files are the truth: every message of theirs is there all the same."""
    home = copy_of(_HOME, tmp_path)
    (home / "relay/index.db").write_bytes(b"not a database" * 100)
    read = collect(home)
    assert [item.part for item in read.report.left_out] == ["relay/index.db"]
    assert len(read.rows["relay_index"]) == 53


def test_an_empty_home_has_nothing(tmp_path: Path) -> None:
    """Neither rows nor complaints."""
    read = collect(tmp_path)
    assert {table for table, rows in read.rows.items() if rows} == set()
    assert read.report.left_out == []


def test_what_is_no_file_in_a_mailbox_is_named(tmp_path: Path) -> None:
    """A pipe, a folder, links to nowhere and in a circle, a device: each by its place, and nobody waits."""
    home = copy_of(_HOME, tmp_path)
    new, failed = (_mailbox(home, _CONSOLE, folder) for folder in ("new", "failed"))
    failed.mkdir(exist_ok=True)
    os.mkfifo(new / "pipe.json")
    (new / "folder.json").mkdir()
    (new / "nowhere.json").symlink_to("nothing.json")
    (new / "circle.json").symlink_to("circle.json")
    (new / "device.json").symlink_to("/dev/zero")
    (new / "no message").mkdir()
    message = _write(home, "01KJ7J050859WQ11G6SZW0AAAA", _envelope(), folder="failed")
    os.mkfifo(failed / "01KJ7J050859WQ11G6SZW0AAAA.reason.json")
    read = collect(home)
    assert {Path(item.where).name: item.why for item in read.report.left_out} == {
        "pipe.json": "it is a FIFO, not a file",
        "folder.json": "it is a folder, not a file",
        "nowhere.json": "No such file or directory",
        "circle.json": "Too many levels of symbolic links",
        "device.json": "it is a device, not a file",
        "01KJ7J050859WQ11G6SZW0AAAA.reason.json": "it is a FIFO, not a file",
    }
    assert message.stem in read.by_id("relay_messages")


def test_what_is_no_mailbox_is_named_or_passed_over(tmp_path: Path) -> None:
    """A link may have led to one; a file never was one."""
    home = copy_of(_HOME, tmp_path)
    boxes = home / _MAILBOXES
    (boxes / "nowhere").symlink_to("nothing")
    (boxes / "circle").symlink_to("circle")
    (boxes / "notes.txt").write_text("mine", "utf-8")
    (boxes / "linked").symlink_to(_CONSOLE)
    read = collect(home)
    assert sorted(Path(item.where).name for item in read.report.left_out) == ["circle", "nowhere"]


def test_names_that_are_no_text_cost_no_message(tmp_path: Path) -> None:
    """Of a mailbox a hash stands for its name, which is told; of a file the id of its message."""
    home = copy_of(_HOME, tmp_path)
    odd = os.fsdecode(b"box\xff")
    _write(home, "01KJ7J050859WQ11G6SZW0AAAA", _envelope(), name=odd)
    _write(home, os.fsdecode(b"odd\xfe"), _envelope(id="01KJ7J050859WQ11G6SZW0BBBB"), name=odd)
    read = collect(home)
    assert read.report.left_out == []
    assert {"01KJ7J050859WQ11G6SZW0AAAA", "01KJ7J050859WQ11G6SZW0BBBB"} <= read.by_id("relay_messages").keys()
    (note,) = (note for note in read.report.notes if odd in note)
    assert "the name of this mailbox is no text" in note
    json.dumps(read.rows, default=str, ensure_ascii=False).encode()
