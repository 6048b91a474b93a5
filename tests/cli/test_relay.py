"""`dorkos relay` against a real server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import dorkos as package
from tests.cli.conftest import Dorkos
from tests.server_process import ServerProcess

_NUMBERS = count()

# Where the package lies, for a program that gets a clean environment.
SOURCES = Path(package.__path__[0]).parent

# Opens a mailbox of its own for the test and returns its subject.
Mailbox = Callable[[], str]


@pytest.fixture
def mailbox(dorkos: Dorkos) -> Mailbox:
    """Mailboxes that no other test uses."""

    def open_one() -> str:
        subject = f"relay.human.cli{next(_NUMBERS)}"
        assert dorkos("relay", "open", subject, "--description", "a test").code == 0
        return subject

    return open_one


def test_sent_means_delivered(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The receipt says to whom, and the exit code is 0."""
    done = dorkos("relay", "send", mailbox(), "The build is done.")
    assert done.code == 0
    assert "  delivered to relay.human.cli" in done.out


def test_what_was_not_delivered_fails(dorkos: Dorkos) -> None:
    """Exit code 1 with the reason, as text and as JSON, although the message is stored."""
    done, as_json = (
        dorkos("relay", "send", "relay.human.nobody", "x", *words) for words in ((), ("--json",))
    )
    assert done.code == as_json.code == 1
    assert "NOT delivered to relay.human.nobody, no_recipient" in done.out
    assert as_json.json["deliveredTo"] == 0


@pytest.mark.parametrize(
    ("words", "stdin", "payload"),
    [
        (("text",), b"", "text"),
        (("-",), "von außen\n".encode(), "von außen\n"),
        (("--json-payload", '{"a": [1, null]}'), b"", {"a": [1, None]}),
        (("--json-payload", "-"), b"[true]", [True]),
        (("--json-payload", "null"), b"", None),
        (("--", "-not-an-option"), b"", "-not-an-option"),
        (("",), b"", ""),
    ],
    ids=str,
)
def test_a_payload_arrives_as_it_was_given(
    dorkos: Dorkos, mailbox: Mailbox, words: tuple[str, ...], stdin: bytes, payload: object
) -> None:
    """Texts as JSON strings, JSON as itself."""
    subject = mailbox()
    assert dorkos("relay", "send", subject, *words, stdin=stdin).code == 0
    (message,) = dorkos("relay", "inbox", subject, "--json").json["messages"]
    assert message["payload"] == payload


def test_no_payload_is_not_null(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """A message without one has none."""
    subject = mailbox()
    dorkos("relay", "send", subject)
    (message,) = dorkos("relay", "inbox", subject, "--json").json["messages"]
    assert "payload" not in message
    assert "says  nothing" in dorkos("relay", "inbox", subject).out


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (("relay.human.*", "x"), b"", "wildcard_not_allowed"),
        (("not a subject", "x"), b"", "invalid_subject"),
        (("relay.human.ada", "x", "--json-payload", "1"), b"", "usage"),
        (("relay.human.ada", "--json-payload", "{"), b"", "invalid_json"),
        (("relay.human.ada", "--json-payload", "NaN"), b"", "invalid_text"),
        (("relay.human.ada", "-"), b"\xff", "invalid_text"),
        (("relay.human.ada", "x", "--from", "relay.agent.a.b"), b"", "sender_mismatch"),
        (("relay.human.ada", "-"), b"x" * (1024 * 1024 + 1), "message_too_large"),
        (("relay.human.ada", "-"), b"x" * (3 * 1024 * 1024), "body_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_messages_are_refused(dorkos: Dorkos, words: tuple[str, ...], stdin: bytes, code: str) -> None:
    """Whether the command line or the server notices."""
    done = dorkos("--json", "relay", "send", *words, stdin=stdin)
    assert done.json["code"] == code
    assert done.code in (2, 5)


def test_a_message_is_claimed_and_acknowledged(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The claim prints the command that acknowledges; afterwards nothing waits."""
    subject = mailbox()
    dorkos(
        "relay", "send", subject, "do this", "--from", "relay.human.grace", "--reply-to", "relay.human.grace"
    )
    claimed = dorkos("relay", "claim", subject, "--lease", "5m").out
    assert "from  relay.human.grace" in claimed
    assert "says  do this" in claimed
    assert "pending, claimed" in dorkos("relay", "inbox", subject).out
    ack = claimed.splitlines()[-1].split()
    assert ack[:3] == ["dorkos", "relay", "ack"]
    assert dorkos(*ack[1:]).out == "Acknowledged.\n"
    assert dorkos("relay", "claim", subject, "--json").json == {"deliveries": []}
    assert "Nothing waits" in dorkos("relay", "claim", subject).out


def test_a_message_is_given_back_or_rejected(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """Given back it comes again, with another lease; rejected it is a dead letter with its reason."""
    subject = mailbox()
    dorkos("relay", "send", subject, "try")
    first = dorkos("relay", "claim", subject, "--json").json["deliveries"][0]
    assert dorkos("relay", "nack", subject, first["messageId"], first["leaseToken"]).out == "Given back.\n"
    late = dorkos("relay", "ack", subject, first["messageId"], first["leaseToken"], "--json")
    assert (late.code, late.json["code"]) == (4, "lease_lost")

    second = dorkos("relay", "claim", subject, "--json").json["deliveries"][0]
    assert second["attempts"] == 2
    dorkos("relay", "nack", subject, second["messageId"], second["leaseToken"], "--reject")
    letters = dorkos("relay", "dead-letters", "--json").json
    assert letters[0]["messageId"] == first["messageId"]
    assert f"{first['messageId']}  rejected" in dorkos("relay", "dead-letters").out


def test_a_claim_waits_as_long_as_it_was_told(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """A wait longer than the server allows is refused rather than cut."""
    subject = mailbox()
    assert dorkos("relay", "claim", subject, "--wait", "50ms", "--json").json == {"deliveries": []}
    assert dorkos("relay", "claim", subject, "--wait", "31s", "--json").json["code"] == "validation_failed"


def test_within_a_run_its_own_mailbox_is_meant(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """DORKOS_SUBJECT stands in for the argument; elsewhere it has to be given."""
    subject = mailbox()
    dorkos("relay", "send", subject, "for me")
    (message,) = dorkos("relay", "inbox", "--json", DORKOS_SUBJECT=subject).json["messages"]
    (claimed,) = dorkos("relay", "claim", "--json", DORKOS_SUBJECT=subject).json["deliveries"]
    assert message["id"] == claimed["messageId"]
    for verb in ("inbox", "claim"):
        assert dorkos("relay", verb, "--json").json["code"] == "usage"


def test_pages_go_on_where_the_last_ended(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The text names the cursor; following it shows each message once."""
    subject = mailbox()
    for number in range(3):
        dorkos("relay", "send", subject, str(number))
    seen, cursor = [], None
    while True:
        more = () if cursor is None else ("--cursor", cursor)
        page = dorkos("relay", "messages", "--subject", subject, "--limit", "2", *more, "--json").json
        seen += [message["payload"] for message in page["messages"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert seen == ["2", "1", "0"]
    assert "There are more: --cursor " in dorkos("relay", "inbox", subject, "--limit", "2").out


def test_lists_are_the_rest_answers(dorkos: Dorkos, server: ServerProcess, mailbox: Mailbox) -> None:
    """Nothing is added, left out or renamed."""
    subject = mailbox()
    dorkos("relay", "send", subject, "x")
    with server.client() as client:
        for verb, path in (
            (("messages",), "messages?limit=20"),
            (("endpoints",), "endpoints"),
            (("dead-letters",), "dead-letters?limit=20"),
            (("inbox", subject), f"endpoints/{subject}/inbox?limit=20"),
        ):
            assert dorkos("relay", *verb, "--json").json == client.get(f"/api/relay/{path}").json()


def test_a_mailbox_is_closed(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """It leaves the list, and shows with --all; closing it again finds none."""
    subject = mailbox()
    assert subject in dorkos("relay", "endpoints").out
    assert dorkos("relay", "close", subject).out == f"Closed {subject}.\n"
    assert subject not in dorkos("relay", "endpoints").out
    (line,) = [
        line for line in dorkos("relay", "endpoints", "--all").out.splitlines() if line.startswith(subject)
    ]
    assert line.endswith("closed")
    assert dorkos("relay", "close", subject, "--json").json["code"] == "endpoint_not_found"


def test_a_mailbox_that_is_open_is_not_opened_again(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """Exit code 4: somebody has it already."""
    done = dorkos("relay", "open", mailbox(), "--json")
    assert (done.code, done.json["code"]) == (4, "endpoint_exists")


def test_a_command_within_a_run_speaks_as_the_run(
    dorkos: Dorkos, server: ServerProcess, mailbox: Mailbox, projects: Path
) -> None:
    """The run's own token and address are used; without the token nothing is sent in anybody's name."""
    subject = mailbox()
    program = projects / "speaks.py"
    program.write_text(
        f"import os, sys\nsys.path.insert(0, {str(SOURCES)!r})\nfrom dorkos.cli.main import main\n"
        f"assert main(['relay', 'send', {subject!r}, 'from within']) == 0\n"
        f"del os.environ['DORKOS_TOKEN']\nassert main(['relay', 'send', {subject!r}, 'as nobody']) == 5\n"
        f"assert main(['relay', 'send', {subject!r}, 'x', '--home', {str(server.home)!r}]) == 5\n",
        encoding="utf-8",
    )
    words = ("--manual", "--cwd", str(projects), "--json", "--", sys.executable, str(program))
    schedule = dorkos("pulse", "add", "speaks", *words).json["id"]
    done = dorkos("pulse", "run", schedule, "--follow")
    assert done.code == 0, done.err
    (message,) = dorkos("relay", "messages", "--subject", subject, "--json").json["messages"]
    assert (message["payload"], message["from"]) == ("from within", f"relay.system.pulse.{schedule}")


def test_a_rule_denies_and_is_explained_and_removed(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """What `explain` says to type is what opens the way again."""
    subject = mailbox()
    added = dorkos("relay", "rules", "add", "relay.human.operator", subject, "deny", "--json")
    rule = added.json["id"]
    assert "denied: The rule" in dorkos("relay", "send", subject, "x").out
    for words in ((), ("list",)):
        shown = dorkos("relay", "rules", *words)
        assert shown.code == 0
        assert rule in shown.out
    explained = dorkos("relay", "explain", "relay.human.operator", subject)
    assert explained.code == 0
    assert "may NOT send" in explained.out
    step = f"dorkos relay rules remove {rule}"
    assert step in explained.out

    assert dorkos(*step.split()[1:]).out == f"Removed {rule}.\n"
    assert dorkos("relay", "send", subject, "x").code == 0
    assert "may send" in dorkos("relay", "explain", "relay.human.operator", subject).out
    assert dorkos(*step.split()[1:]).code == 3


def test_a_rule_says_which_others_contradict_it(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The person learns at once that another decides some of the same messages."""
    subject = mailbox()
    first = dorkos("relay", "rules", "add", ">", subject, "allow", "--priority", "5", "--json").json["id"]
    second = dorkos("relay", "rules", "add", "relay.>", subject, "deny")
    assert "say the opposite" in second.out
    assert f"  {first}" in second.out
    for row in dorkos("relay", "rules", "--json").json:
        if row["to"] == subject:
            assert dorkos("relay", "rules", "remove", row["id"]).code == 0


def test_a_question_is_answered_from_the_command_line(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """Ask without waiting, answer what came, read the reply; exit code 1 as long as there is none."""
    subject = mailbox()
    asked = dorkos("relay", "request", subject, "May I?", "--timeout", "1h", "--wait", "0s", "--json")
    request_id = asked.json["requestId"]
    pending = dorkos("relay", "await", request_id, "--wait", "0s")
    replied = dorkos("relay", "reply", request_id, "Yes.")
    read = dorkos("relay", "await", request_id)

    assert (asked.code, asked.json["state"]) == (1, "pending")
    assert pending.code == 1
    assert f"dorkos relay await {request_id}" in pending.out
    assert replied.code == 0
    assert read.code == 0
    assert "says  Yes." in read.out


def test_a_request_that_nobody_gets_fails_at_once(dorkos: Dorkos) -> None:
    """It does not wait for what cannot come."""
    done = dorkos("relay", "request", "relay.human.nobody", "x")
    assert done.code == 1
    assert "There is no mailbox relay.human.nobody." in done.out


def test_a_key_sends_once(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The second time says that it was sent before."""
    subject = mailbox()
    first, again = (dorkos("relay", "send", subject, "x", "--key", f"k-{subject}") for _ in range(2))
    assert first.code == again.code == 0
    assert "sent before, not again" in again.out
    assert len(dorkos("relay", "inbox", subject, "--json").json["messages"]) == 1


def test_a_mailbox_with_limits_is_full_sooner(dorkos: Dorkos) -> None:
    """As opened, so it refuses; and its circuit can be closed at any time."""
    subject = "relay.human.cli-limited"
    assert dorkos("relay", "open", subject, "--max-pending", "1", "--max-bytes", "1000").code == 0
    assert [dorkos("relay", "send", subject, "x").code for _ in range(2)] == [0, 1]
    assert dorkos("relay", "close-circuit", subject).out == f"{subject} takes messages.\n"


def test_dead_letters_are_shown_put_back_and_taken_away(dorkos: Dorkos) -> None:
    """One by its id, many by a filter; nothing at all is no filter."""
    subject = "relay.human.cli-late"
    sent = dorkos("relay", "send", subject, "too soon", "--json")
    (letter,) = dorkos("relay", "dead-letters", "--subject", subject, "--json").json
    shown = dorkos("relay", "dead-letters", "show", letter["id"])
    early = dorkos("relay", "dead-letters", "redrive", letter["id"])
    dorkos("relay", "open", subject)
    back = dorkos("relay", "dead-letters", "redrive", "--subject", subject)
    again = dorkos("relay", "inbox", subject, "--json").json["messages"]

    assert f"There is no mailbox {subject}." in shown.out
    assert (early.code, "stays, no_recipient" in early.out) == (1, True)
    assert (back.code, back.out) == (0, "Put back: 1 of 1.\n")
    assert [each["id"] for each in again] == [sent.json["messageId"]]
    assert dorkos("relay", "dead-letters", "purge").code == 2


def test_dead_letters_are_exported_and_purged(dorkos: Dorkos) -> None:
    """As lines of JSON, each whole; then they are gone."""
    subject = "relay.human.cli-gone"
    for text in ("one", "two"):
        dorkos("relay", "send", subject, text)
    lines = dorkos("relay", "dead-letters", "export", "--subject", subject).out.splitlines()
    assert [json.loads(line)["envelope"]["payload"] for line in lines] == ["two", "one"]
    assert dorkos("relay", "dead-letters", "purge", "--subject", subject).out == "Taken away: 2.\n"
    assert dorkos("relay", "dead-letters", "--subject", subject, "--json").json == []


def test_a_trace_reads_from_cause_to_effect(dorkos: Dorkos, mailbox: Mailbox) -> None:
    """The reply stands below the request."""
    subject = mailbox()
    asked = dorkos("relay", "request", subject, "May I?", "--wait", "0s", "--json").json
    dorkos("relay", "reply", asked["requestId"], "Yes.")
    dorkos("relay", "await", asked["requestId"])
    told = dorkos("relay", "trace", asked["requestId"])
    by_chain = dorkos("relay", "trace", asked["chainId"], "--chain")

    assert told.out == by_chain.out
    heading, first, second = told.out.splitlines()
    assert asked["chainId"] in heading
    assert f"relay.human.operator -> {subject}" in first
    assert "  relay.human.operator -> relay.system.reply." in second
