"""The notable messages of the first fixture home, each by its id."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dorkos.vocabulary import DeadLetterReason, DeliveryStatus
from tests.db.legacy.relay_kit import collected

_HOME = "home-three-databases"
_CONSOLE = "8806c7805369"
_TELEGRAM = "15899e84dff2"
_WORKER = "9f8a15bfbbd4"
_BACKEND, _FRONTEND, _OPS = "e80a0e983264", "a7f282b517f1", "f4786fcd7f4c"


def _message(message_id: str) -> dict[str, Any]:
    return collected(_HOME).by_id("relay_messages")[message_id]


def _payload(message_id: str) -> Any:
    return json.loads(_message(message_id)["payload"])


def _dead_letters(message_id: str) -> list[dict[str, Any]]:
    return [row for row in collected(_HOME).rows["relay_dead_letters"] if row["message_id"] == message_id]


@pytest.mark.parametrize(
    ("message_id", "file_id"),
    [
        ("01KJ7HMHTM4DESN8BEA70CTZZV", "01KJ7HMHV6YV0AE0DDGK1BKV1T"),
        ("01KJ7HQEM3CMDAQPH5GV9C69RK", "01KJ7HQEMJBN85WS0BPB5Q5FXY"),
        ("01KJ7HTBDJCARE89R9DD3JZPYQ", "01KJ7HTBDZ0WSVV2N29KVHM9Z3"),
        ("01KJ7HX86ZYYZGBHJ1D3RFJSHV", "01KJ7HX87D4CVSECTNA4HB9CGW"),
    ],
)
def test_what_a_handler_had_taken_waits_again(message_id: str, file_id: str) -> None:
    """Whatever the index said, delivered or not: the file decides, and one attempt is counted."""
    row = collected(_HOME).delivery(_WORKER, message_id)
    assert row["id"] == file_id
    assert row["status"] is DeliveryStatus.PENDING
    assert row["attempts"] == 1


def test_odd_characters_stay() -> None:
    """Emoji, joiners, combining accents, Hebrew, CRLF, tab, U+0000 and U+2028; sender and reply address."""
    message_id = "01KJ7JBR5Y0M21ETHZNN8D89BR"
    row = _message(message_id)
    assert row["sender"] == "relay.human.zoë.Ωmega"
    assert "\\u0000" in row["payload"]
    assert "\x00" not in row["payload"]
    text = json.dumps(_payload(message_id), ensure_ascii=False)
    assert "\u2028" in text
    assert "\\u0000" in text


def test_a_lone_surrogate_stays_the_escape_that_it_was() -> None:
    """No engine could store it otherwise, and no reader gets anything else than the file's readers got."""
    row = _message("01KJ7JEMZFE2YR45MSW2CCQA9C")
    assert "\\ud83d" in row["payload"]
    assert row["payload"].isascii()


def test_no_payload_and_a_null_payload_are_two_things() -> None:
    """Sent as undefined: NULL. Sent as null: the JSON null."""
    assert _message("01KJ7JX4YHRJNNT66A3MXN04Y0")["payload"] is None
    assert _message("01KJ7JT854CRB9Q2Z4F4HTATHD")["payload"] == "null"


def test_payloads_of_every_kind_stay_what_they_were() -> None:
    """A bare string, a number, an array, and numbers at the edge of a double."""
    assert isinstance(_payload("01KJ7JMEJ8MH3XT60NX86224M0"), str)
    assert isinstance(_payload("01KJ7JQBBMS0Y3V59K7ZRHEJZZ"), int | float)
    assert isinstance(_payload("01KJ7K01QXEW9DMJ11Q5HPE0VB"), list)
    numbers = _payload("01KJ7K2YH88HJKTA2YF1RR7CW5")
    assert numbers == {"id": 9007199254740992, "f": 1e21, "neg": -0.1}


def test_a_large_payload_is_whole() -> None:
    """About 60 kB."""
    assert _message("01KJ7JHHRSC8XWV1JJSJ2N7YEG")["bytes"] > 50_000


def test_an_absent_ttl_never_expires_and_null_was_refused() -> None:
    """Both have no instant; that the second was null is kept, since the column says the same of both."""
    absent = _message("01KJ7J5YKAQYT9F2FEJBRV28M4")
    assert absent["expires_at"] is None
    assert absent["metadata"] is None
    assert collected(_HOME).delivery(_CONSOLE, absent["id"])["status"] is DeliveryStatus.PENDING
    null = _message("01KJ7J8VCKYSNZEFC7SZQWFX8Q")
    assert null["expires_at"] is None
    assert null["metadata"] == {"budget": {"ttl": None}}
    (letter,) = _dead_letters(null["id"])
    assert letter["reason"] is DeadLetterReason.EXPIRED


@pytest.mark.parametrize(
    ("message_id", "expires_at"),
    [
        ("01KJ7J31SY7N2VR1BCHN2DZCVA", datetime(2099, 1, 1, tzinfo=UTC)),
        ("01KJ7MM80W6N9ECDPT05VTXGVR", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
        ("01KJ7MQ4T2FHTGJV0NC25D536Q", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_ttl_is_an_instant(message_id: str, expires_at: datetime) -> None:
    """Neither extended nor read as a duration, also where its sender meant one; 0 is an instant, too."""
    assert _message(message_id)["expires_at"] == expires_at


def test_a_message_that_went_on_tells_its_way() -> None:
    """Hop 4 of 9, with the four mailboxes that it went through."""
    row = _message("01KJ7K8R42C870FMXANNTYKFH3")
    assert (row["hop_count"], row["max_hops"]) == (4, 9)
    assert len(row["ancestors"]) == 4
    assert row["ancestors"][-1] == "relay.team.backend"


@pytest.mark.parametrize("message_id", ["01KJ7KBMXEN34FJNHY6EZS7Q1D", "01KJ7KEHQ8G7FND3YDFFT5MTNP"])
def test_a_fan_out_is_one_message_in_three_mailboxes(message_id: str) -> None:
    """Sent to a pattern, which nobody may do today; what it put into the mailboxes waits there."""
    read = collected(_HOME)
    for mailbox in (_BACKEND, _FRONTEND, _OPS):
        assert read.delivery(mailbox, message_id)["status"] is DeliveryStatus.PENDING


def test_a_refusal_in_three_mailboxes_is_three_dead_letters_of_one_message() -> None:
    """The index had room for one of them, which keeps the id."""
    message_id = "01KJ7N2QZAW28V1N6KXK86FK8N"
    read = collected(_HOME)
    letters = _dead_letters(message_id)
    endpoints = {read.mailbox(mailbox)["id"] for mailbox in (_BACKEND, _FRONTEND, _OPS)}
    assert {row["endpoint_id"] for row in letters} == endpoints
    assert len({row["id"] for row in letters}) == 3
    assert read.delivery(_OPS, message_id)["id"] == message_id


@pytest.mark.parametrize(
    ("message_id", "reason"),
    [
        ("01KJ7MHB7FM896HPDV79YMW7NW", DeadLetterReason.EXPIRED),
        ("01KJ7MT1KJCS9N28JAPHHXJ4NP", DeadLetterReason.HOPS_EXCEEDED),
        ("01KJ7MWYCRMW6WCSH03SC84RAS", DeadLetterReason.CYCLE),
        ("01KJ7MZV5ZC8BT8J060572JT8D", DeadLetterReason.BUDGET_EXCEEDED),
        ("01KJ7N5MSDA3BXC49ZWNQCJ3QS", DeadLetterReason.NO_RECIPIENT),
        ("01KJ7NBEBYWHY206NEKHAJYQJA", DeadLetterReason.NO_RECIPIENT),
        ("01KJ7HHN1AFK8B0FC2QAJ9XBDG", DeadLetterReason.NO_RECIPIENT),
        ("01KJ7NZQXZEN7J26RYQQHY7H0X", DeadLetterReason.REJECTED),
        ("01KJ7P2MQGSDKGHPRVFQA9TN8F", DeadLetterReason.REJECTED),
    ],
)
def test_each_kind_of_refusal_has_its_reason(message_id: str, reason: DeadLetterReason) -> None:
    """One word of the closed list; what a handler threw is a rejection, whatever it says."""
    (letter,) = _dead_letters(message_id)
    assert letter["reason"] is reason


def test_what_an_index_alone_held_stays_with_the_message() -> None:
    """The columns were never written by a store; where they are, the file's payload stands all the same."""
    read = collected("home-node-0002")
    message = read.by_id("relay_messages")["01KK19SHDKHJV7G9NM42054CMB"]
    assert read.delivery(_WORKER, message["id"])["id"] == "01KK19SHE390Q5D88WPASHH3ES"
    assert message["metadata"] == {
        "index": {
            "payload": '{"content":"copied “payload” ✉️"}',
            "metadata": '{"source":"schema-legal"}',
        }
    }
    assert json.loads(message["payload"]) != {"content": "copied “payload” ✉️"}


def test_both_generations_of_an_upgraded_home_are_there() -> None:
    """Of the seven rows that a newer server put into the older file, one has no file: nobody saw it."""
    read = collected("home-upgraded-by-server")
    deliveries = read.by_id("relay_index")
    lost = deliveries["01M83QJ3A3AWMC0F6RKVE5331V"]
    assert lost["status"] is DeliveryStatus.DELIVERED
    waiting = deliveries["01M83QJ39M9WDPYEPNRJRGMA1X"]
    assert waiting["status"] is DeliveryStatus.PENDING
    assert waiting["expires_at"] == datetime(2099, 1, 1, tzinfo=UTC)
