"""Relay on the wire: keys, old words, pages, and what is left out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dorkos.clock import ManualClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.relay.operations import OPERATIONS
from dorkos.relay.subjects import subject_hash
from dorkos.testing import create_test_db
from dorkos.vocabulary import Scope
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, post_office

BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture
async def office(clock: ManualClock) -> AsyncIterator[PostOffice]:
    """Relay with one mailbox, which holds two messages."""
    async with create_test_db(clock=clock) as db:
        office = post_office(db, clock, max_mailbox_size=2)
        await office.open()
        yield office


async def call(office: PostOffice, name: str, caller: Caller = OPERATOR, **body: Any) -> Any:
    """Ask as a face does: validated input in, JSON out."""
    operation = BY_NAME[name]
    answer = await operation.handler(office.relay, caller, operation.input.model_validate(body))
    return json.loads(TypeAdapter(operation.answer).dump_json(answer, by_alias=True))


async def test_a_receipt_has_the_lineages_keys_and_ours(office: PostOffice) -> None:
    """Delivered: no `rejected`; the pressure is told by the mailbox's hash."""
    answer = await call(office, "relay.publish", BOB, subject=INBOX, payload={"content": "hi"})
    message_id = answer["messageId"]

    assert answer == {
        "messageId": message_id,
        "deliveredTo": 1,
        "chainId": message_id,
        "recipients": [{"subject": INBOX, "outcome": "delivered", "detail": None}],
        "mailboxPressure": {subject_hash(INBOX): 0.5},
    }


async def test_a_refused_message_is_rejected_in_old_words_too(office: PostOffice) -> None:
    """Backpressure and a spent budget are among `rejected`; nobody there is only deliveredTo 0."""
    for _ in range(2):
        await call(office, "relay.publish", BOB, subject=INBOX)
    full = await call(office, "relay.publish", BOB, subject=INBOX)
    late = await call(office, "relay.publish", BOB, subject=INBOX, budget={"ttl": 0})
    nobody = await call(office, "relay.publish", BOB, subject="relay.human.nobody")

    assert full["rejected"] == [{"endpointHash": subject_hash(INBOX), "reason": "backpressure"}]
    assert late["rejected"] == [{"endpointHash": subject_hash(INBOX), "reason": "budget_exceeded"}]
    assert nobody["deliveredTo"] == 0
    assert "rejected" not in nobody
    assert nobody["recipients"][0]["outcome"] == "no_recipient"


async def test_a_message_shows_its_budget_and_deliveries(office: PostOffice, clock: ManualClock) -> None:
    """The envelope with `from`, hops, `ttl` in Unix milliseconds, and each mailbox it went to."""
    ttl = int((clock.now() + timedelta(seconds=60)).timestamp() * 1000)
    sent = await call(
        office,
        "relay.publish",
        BOB,
        subject=INBOX,
        payload=[1],
        replyTo=BOB.subject,
        budget={"maxHops": 2, "ttl": ttl},
    )
    message = await call(office, "relay.message", id=sent["messageId"])

    assert message == {
        "id": sent["messageId"],
        "subject": INBOX,
        "from": BOB.subject,
        "replyTo": BOB.subject,
        "payload": [1],
        "budget": {
            "hopCount": 0,
            "maxHops": 2,
            "ancestorChain": [],
            "callBudgetRemaining": 10,
            "ttl": ttl,
        },
        "chainId": sent["messageId"],
        "createdAt": "2026-03-01T09:00:00.000Z",
        "expiresAt": "2026-03-01T09:01:00.000Z",
        "status": "pending",
        "deliveries": [
            {
                "endpoint": INBOX,
                "endpointHash": subject_hash(INBOX),
                "status": "pending",
                "attempts": 0,
                "deliveredAt": None,
            }
        ],
    }


async def test_null_is_a_payload_and_none_is_left_out(office: PostOffice) -> None:
    """A reader can tell the two apart."""
    null = await call(office, "relay.publish", BOB, subject=INBOX, payload=None)
    absent = await call(office, "relay.publish", BOB, subject=INBOX)

    assert (await call(office, "relay.message", id=null["messageId"]))["payload"] is None
    assert "payload" not in await call(office, "relay.message", id=absent["messageId"])


async def test_old_status_words_are_understood(office: PostOffice) -> None:
    """`new` is pending and `cur` is delivered, in lists and in the inbox."""
    one = (await call(office, "relay.publish", BOB, subject=INBOX))["messageId"]
    two = (await call(office, "relay.publish", BOB, subject=INBOX))["messageId"]
    (taken,) = (await call(office, "relay.claim", ADA, subject=INBOX))["deliveries"]
    await call(office, "relay.ack", ADA, subject=INBOX, messageId=one, leaseToken=taken["leaseToken"])

    expected = {"new": [two], "pending": [two], "cur": [one], "delivered": [one], "failed": []}
    for word, ids in expected.items():
        listed = await call(office, "relay.messages", status=word)
        inbox = await call(office, "relay.inbox", subject=INBOX, status=word)
        for found in (listed, inbox):
            assert [message["id"] for message in found["messages"]] == ids


@pytest.mark.parametrize("name", ["relay.messages", "relay.inbox"])
async def test_pages_join_up(office: PostOffice, name: str) -> None:
    """`nextCursor` is there exactly if there is more."""
    sent = [(await call(office, "relay.publish", BOB, subject=INBOX))["messageId"] for _ in range(2)]
    extra: dict[str, Any] = {"subject": INBOX} if name == "relay.inbox" else {}
    first = await call(office, name, limit="1", **extra)
    second = await call(office, name, limit=1, cursor=first["nextCursor"], **extra)

    assert [page["messages"][0]["id"] for page in (first, second)] == sent[::-1]
    assert "nextCursor" not in second


async def test_dead_letters_are_a_bare_array_in_pages(office: PostOffice) -> None:
    """Newest first, with the envelope; the hash is that of the address nobody had."""
    sent = [
        (await call(office, "relay.publish", BOB, subject="relay.human.nobody", payload=number))["messageId"]
        for number in range(3)
    ]
    first = await call(office, "relay.dead_letters", limit=2)
    rest = await call(office, "relay.dead_letters", limit=2, cursor=first[-1]["id"])

    assert [letter["messageId"] for letter in first + rest] == sent[::-1]
    letter = first[0]
    assert (letter["reason"], letter["detail"]) == ("no_recipient", "There is no mailbox relay.human.nobody.")
    assert letter["endpointHash"] == subject_hash("relay.human.nobody")
    assert letter["failedAt"] == "2026-03-01T09:00:00.000Z"
    assert (letter["envelope"]["id"], letter["envelope"]["payload"]) == (sent[2], 2)


async def test_dead_letters_can_be_asked_by_mailbox(office: PostOffice) -> None:
    """Those that were meant for it, whether or not they got that far."""
    await call(office, "relay.publish", BOB, subject=INBOX, budget={"ttl": 0})
    await call(office, "relay.publish", BOB, subject="relay.human.nobody")
    (letter,) = await call(office, "relay.dead_letters", endpointHash=subject_hash(INBOX))

    assert (letter["envelope"]["subject"], letter["reason"]) == (INBOX, "expired")
    assert await call(office, "relay.dead_letters", endpointHash="000000000000") == []


@pytest.mark.parametrize("name", ["relay.messages", "relay.inbox", "relay.dead_letters"])
async def test_a_made_up_cursor_is_refused(office: PostOffice, name: str) -> None:
    """It is not taken for an empty page."""
    with pytest.raises(DorkError) as refusal:
        await call(office, name, subject=INBOX, cursor="2")
    assert refusal.value.code is ErrorCode.INVALID_CURSOR


async def test_a_claim_carries_message_and_lease(office: PostOffice) -> None:
    """All one needs to work on it and to settle it."""
    sent = await call(office, "relay.publish", BOB, subject=INBOX, payload="x")
    (taken,) = (await call(office, "relay.claim", ADA, subject=INBOX, leaseSeconds=5))["deliveries"]

    assert (taken["messageId"], taken["attempts"]) == (sent["messageId"], 1)
    assert taken["leaseExpiresAt"] == "2026-03-01T09:00:05.000Z"
    assert (taken["message"]["payload"], taken["message"]["from"]) == ("x", BOB.subject)
    held = {"subject": INBOX, "messageId": taken["messageId"], "leaseToken": taken["leaseToken"]}
    (entry,) = (await call(office, "relay.inbox", ADA, subject=INBOX))["messages"]
    assert (entry["claimed"], entry["status"]) == (True, "pending")
    assert await call(office, "relay.extend", ADA, **held, leaseSeconds=60) == {
        "success": True,
        "leaseExpiresAt": "2026-03-01T09:01:00.000Z",
    }
    assert await call(office, "relay.nack", ADA, **held) == {"success": True, "status": "pending"}
    (entry,) = (await call(office, "relay.inbox", ADA, subject=INBOX))["messages"]
    assert (entry["claimed"], entry["attempts"]) == (False, 1)


async def test_mailboxes_are_a_bare_array(office: PostOffice) -> None:
    """Open ones only, unless the closed ones are asked for."""
    made = await call(office, "relay.open", subject="relay.system.console", description="people")
    assert await call(office, "relay.close", subject=INBOX) == {"success": True}

    assert await call(office, "relay.endpoints") == [made]
    assert made == {
        "id": made["id"],
        "subject": "relay.system.console",
        "hash": "8806c7805369",
        "description": "people",
        "agentId": None,
        "consumer": "claim",
        "pendingCount": 0,
        "pendingBytes": 0,
        "maxPending": 2,
        "maxPendingBytes": 64 * 1024 * 1024,
        "pressure": 0.0,
        "breaker": "closed",
        "registeredAt": "2026-03-01T09:00:00.000Z",
    }
    everything = await call(office, "relay.endpoints", includeClosed="true")
    assert [endpoint.get("closedAt") for endpoint in everything] == [None, "2026-03-01T09:00:00.000Z"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("relay.publish", {}),
        ("relay.publish", {"subject": 7}),
        ("relay.publish", {"subject": INBOX, "budget": {"maxHops": 0}}),
        ("relay.publish", {"subject": INBOX, "budget": {"maxHops": 1001}}),
        ("relay.publish", {"subject": INBOX, "budget": {"ttl": -1}}),
        ("relay.publish", {"subject": INBOX, "budget": {"ttl": 10**18}}),
        ("relay.publish", {"subject": INBOX, "budget": None}),
        ("relay.messages", {"status": "lost"}),
        ("relay.messages", {"limit": 0}),
        ("relay.messages", {"limit": 101}),
        ("relay.claim", {"subject": INBOX, "limit": 101}),
        ("relay.claim", {"subject": INBOX, "waitMs": 30_001}),
        ("relay.claim", {"subject": INBOX, "leaseSeconds": 0}),
        ("relay.nack", {"subject": INBOX, "messageId": "x", "leaseToken": "y", "delayMs": 86_400_001}),
    ],
)
def test_what_is_out_of_bounds_does_not_validate(name: str, body: dict[str, Any]) -> None:
    """Every field has bounds, and the input model knows them."""
    with pytest.raises(ValidationError):
        BY_NAME[name].input.model_validate(body)


def test_the_last_instant_is_a_time_to_live() -> None:
    """The largest `ttl` that is accepted can be stored."""
    sent = {"subject": "a", "budget": {"ttl": 253_402_300_799_999}}
    body = BY_NAME["relay.publish"].input.model_validate(sent)
    assert body.budget.expires_at().year == 9999


def test_who_may_do_what() -> None:
    """Runs send and receive; only the operator opens, closes and makes rules; lists need to observe."""
    by_scope: dict[Scope | None, set[str]] = {}
    for operation in OPERATIONS:
        by_scope.setdefault(operation.scope, set()).add(operation.name)

    assert by_scope == {
        Scope.SEND: {
            "relay.publish",
            "relay.request",
            "relay.request_state",
            "relay.await_reply",
            "relay.reply",
        },
        Scope.RECEIVE: {"relay.claim", "relay.ack", "relay.nack", "relay.extend", "relay.inbox"},
        Scope.OBSERVE: {
            "relay.messages",
            "relay.message",
            "relay.endpoints",
            "relay.dead_letters",
            "relay.dead_letter",
            "relay.trace",
            "relay.chain",
            "relay.search",
            "relay.metrics",
            "relay.delivery_metrics",
            "relay.traffic",
            "relay.rules",
        },
        Scope.OPERATE: {
            "relay.open",
            "relay.close",
            "relay.close_circuit",
            "relay.redrive",
            "relay.redrive_all",
            "relay.purge",
            "relay.purge_all",
            "relay.add_rule",
            "relay.remove_rule",
        },
        None: {"relay.explain"},
    }


RULE_KEYS = {
    *("id", "from", "to", "action", "priority", "description", "managedBy", "createdBy", "createdAt"),
}


async def test_rules_are_added_listed_explained_and_removed(office: PostOffice) -> None:
    """With the lineage's keys; it had no word of rejection for denied, so `recipients` alone says it."""
    first = await call(office, "relay.add_rule", from_pattern=">", to="relay.human.>", action="allow")
    added = await call(
        office,
        "relay.add_rule",
        from_pattern="relay.human.*",
        to=INBOX,
        action="deny",
        priority=300,
        description="Quiet",
    )
    assert set(added) == RULE_KEYS | {"contradicts"}
    assert (added["contradicts"], added["createdBy"], added["managedBy"]) == (
        [first["id"]],
        OPERATOR.subject,
        None,
    )
    listed = await call(office, "relay.rules")
    assert [set(rule) for rule in listed] == [RULE_KEYS, RULE_KEYS]
    assert [rule["id"] for rule in listed] == [added["id"], first["id"]]
    assert first["priority"] == 200

    sent = await call(office, "relay.publish", BOB, subject=INBOX)
    explained = await call(office, "relay.explain", sender=BOB.subject, to=INBOX)
    assert (sent["deliveredTo"], "rejected" in sent) == (0, False)
    assert sent["recipients"] == [{"subject": INBOX, "outcome": "denied", "detail": explained["why"]}]
    assert explained["rule"] == {key: added[key] for key in ("id", "from", "to", "action", "priority")}
    assert (explained["from"], explained["to"], explained["allowed"]) == (BOB.subject, INBOX, False)
    assert [(change["command"], change["allowed"]) for change in explained["changes"]] == [
        (f"dorkos relay rules remove {added['id']}", True),
        (f"dorkos relay rules add {BOB.subject} {INBOX} allow --priority 301", True),
    ]

    await call(office, "relay.remove_rule", id=added["id"])
    assert (await call(office, "relay.explain", sender=BOB.subject, to=INBOX))["rule"]["id"] == first["id"]


async def test_an_agent_may_ask_about_itself_only(office: PostOffice) -> None:
    """`from` may be left out; whom others reach is none of its business."""
    assert (await call(office, "relay.explain", BOB, to=INBOX))["from"] == BOB.subject
    with pytest.raises(DorkError) as refusal:
        await call(office, "relay.explain", BOB, sender=ADA.subject, to=INBOX)
    assert refusal.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (("relay.human.*", INBOX), ErrorCode.WILDCARD_NOT_ALLOWED),
        ((INBOX, ">"), ErrorCode.WILDCARD_NOT_ALLOWED),
        (("a b", INBOX), ErrorCode.INVALID_SUBJECT),
    ],
)
async def test_only_two_exact_subjects_can_be_explained(
    office: PostOffice, ends: tuple[str, str], code: ErrorCode
) -> None:
    """A pattern would have many answers."""
    with pytest.raises(DorkError) as refusal:
        await call(office, "relay.explain", sender=ends[0], to=ends[1])
    assert refusal.value.code is code


@pytest.mark.parametrize("priority", [2**53 - 1, -(2**53) + 1, 1.5, "high"])
async def test_a_priority_is_a_whole_number_that_every_reader_keeps(
    office: PostOffice, priority: object
) -> None:
    """And none reaches the one that is kept for what cannot be understood."""
    with pytest.raises(ValidationError):
        await call(office, "relay.add_rule", from_pattern=">", to=">", action="allow", priority=priority)


async def test_a_repetition_says_so(office: PostOffice) -> None:
    """`duplicate` is there only then."""
    first, again = [
        await call(office, "relay.publish", BOB, subject=INBOX, idempotencyKey="k") for _ in range(2)
    ]
    assert "duplicate" not in first
    assert again == first | {"duplicate": True}


async def test_the_budget_of_a_message_is_shown_whole(office: PostOffice) -> None:
    """With the lineage's words, on every message."""
    sent = await call(office, "relay.publish", BOB, subject=INBOX, budget={"callBudgetRemaining": 3})
    shown = await call(office, "relay.message", id=sent["messageId"])
    assert shown["budget"]["callBudgetRemaining"] == 3
    assert shown["budget"]["ancestorChain"] == []


async def test_a_request_on_the_wire(office: PostOffice) -> None:
    """Pending with its deadline and recipients; then with the reply, looked at and awaited alike."""
    asked = await call(office, "relay.request", BOB, subject=INBOX, payload="May I?", timeoutSeconds=60)
    request_id = asked["requestId"]
    await call(office, "relay.reply", ADA, id=request_id, payload="Yes.")
    looked = await call(office, "relay.request_state", BOB, id=request_id)
    read = await call(office, "relay.await_reply", BOB, id=request_id, waitMs=0)

    assert (asked["state"], asked["deadline"]) == ("pending", "2026-03-01T09:01:00.000Z")
    assert asked["recipients"] == [{"subject": INBOX, "outcome": "delivered", "detail": None}]
    assert not asked.keys() & {"reply", "detail", "duplicate"}
    assert looked == read
    assert (read["state"], read["reply"]["payload"], read["reply"]["from"]) == ("replied", "Yes.", INBOX)


async def test_a_mailbox_shows_how_full_it_is_and_its_circuit(office: PostOffice) -> None:
    """As numbers that were measured."""
    await call(office, "relay.publish", BOB, subject=INBOX, payload="x")
    (shown,) = await call(office, "relay.endpoints")
    assert (shown["pendingBytes"], shown["pressure"], shown["breaker"]) == (3, 0.5, "closed")
    assert await call(office, "relay.close_circuit", subject=INBOX) == {"success": True}
