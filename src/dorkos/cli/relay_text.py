"""How Relay's answers read to a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dorkos.cli.instants import zoned_time
from dorkos.cli.render import Column, preview, print_more, print_table, say, state_style

# A line and its colour.
Line = tuple[str, str]
_REQUEST_STYLES = {"replied": "green", "pending": "yellow", "expired": "red", "failed": "red"}


def receipt(answer: Any) -> None:
    """What became of a message at each recipient."""
    say(f"Message {answer['messageId']}{' (sent before, not again)' if answer.get('duplicate') else ''}")
    for recipient in answer["recipients"]:
        if recipient["outcome"] == "delivered":
            say(f"  delivered to {recipient['subject']}", "green")
        else:
            why = f": {recipient['detail']}" if recipient["detail"] else ""
            say(f"  NOT delivered to {recipient['subject']}, {recipient['outcome']}{why}", "red")


def request(answer: Any) -> None:
    """Where a request stands, and its reply."""
    say(f"Request {answer['requestId']}  {answer['state']}", _REQUEST_STYLES[answer["state"]])
    if "reply" in answer:
        for text, style in _letter(answer["reply"]):
            say(text, style)
    elif "detail" in answer:
        say(f"  {answer['detail']}")
    else:
        say(f"  A reply counts until {zoned_time(answer['deadline'])}. To go on waiting:")
        say(f"  dorkos relay await {answer['requestId']}")


def messages(page: Any) -> None:
    """Messages, each with where it stands."""
    empty = "No messages here. Send one: dorkos relay send SUBJECT TEXT"
    _print_each(page["messages"], _message, empty=empty)
    print_more(page.get("nextCursor"))


def inbox(page: Any) -> None:
    """The same for one mailbox."""
    _print_each(page["messages"], _message, empty="The mailbox is empty.")
    print_more(page.get("nextCursor"))


def claimed(subject: str, deliveries: Sequence[Any]) -> None:
    """Messages that are now the caller's, each with the command that acknowledges it."""

    def lines(row: Any) -> Sequence[Line]:
        until = zoned_time(row["leaseExpiresAt"])
        return (
            (f"{row['messageId']}  attempt {row['attempts']}, yours until {until}", "bold"),
            *_letter(row["message"]),
            (f"  dorkos relay ack {subject} {row['messageId']} {row['leaseToken']}", ""),
        )

    _print_each(deliveries, lines, empty="Nothing waits in the mailbox. Wait for a message with --wait 30s.")


def dead_letters(letters: Any, limit: int) -> None:
    """Messages that stopped, each with the reason."""

    _print_each(letters, _dead_letter, empty="No dead letters: every message has arrived or still waits.")
    print_more(letters[-1]["id"] if len(letters) == limit else None)


def dead_letter(row: Any) -> None:
    """One of them."""
    _print_each([row], _dead_letter, empty="")


def redriven(answer: Any) -> None:
    """What became of each dead letter that was to be put back."""
    for row in answer["letters"]:
        if row["outcome"] != "delivered":
            say(f"{row['id']}  stays, {row['outcome']}: {row.get('detail', '')}", "red")
    say(f"Put back: {answer['redriven']} of {len(answer['letters'])}.")


def endpoints(rows: Any, owners: Mapping[str, str]) -> None:
    """Mailboxes in a table; `owners` says what their agents are called."""
    print_table(
        rows,
        (
            Column("subject", lambda row: row["subject"]),
            Column("of", lambda row: owners.get(row["agentId"], row["description"]), shrinks=True),
            Column("waiting", lambda row: str(row["pendingCount"]), right=True),
            Column("taken by", _taker),
        ),
        empty="No mailboxes yet. Open one: dorkos relay open relay.human.ada",
    )


def _dead_letter(row: Mapping[str, Any]) -> Sequence[Line]:
    again = f", put back {row['redriveCount']} times" if row["redriveCount"] else ""
    return (
        (f"{row['messageId']}  {row['reason']}  {zoned_time(row['failedAt'])}{again}", "red"),
        (f"  {row['detail']}", ""),
        *_letter(row["envelope"]),
        (f"  dorkos relay dead-letters redrive {row['id']}", ""),
    )


def _message(row: Mapping[str, Any]) -> Sequence[Line]:
    status = f"{row['status']}, claimed" if row.get("claimed") else row["status"]
    head = f"{row['id']}  {status}  {zoned_time(row['createdAt'])}"
    return ((head, state_style(row["status"])), *_letter(row))


def _letter(message: Mapping[str, Any]) -> Sequence[Line]:
    """Who said what to whom. Each subject has a line to itself, because it is long and made for copying."""
    says = preview(message["payload"]) if "payload" in message else "nothing"
    return (
        (f"  from  {message['from'] or '-'}", ""),
        (f"  to    {message['subject']}", ""),
        (f"  says  {says}", ""),
    )


def _taker(endpoint: Mapping[str, Any]) -> str:
    if endpoint.get("closedAt"):
        return "closed"
    if endpoint["breaker"] != "closed":
        return "nobody, its circuit is open"
    return {"run": "runs", "claim": "claims", "adapter": "an adapter"}[endpoint["consumer"]]


def _print_each(rows: Sequence[Any], lines: Callable[[Any], Sequence[Line]], *, empty: str) -> None:
    if not rows:
        say(empty)
    for number, row in enumerate(rows):
        if number:
            say("")
        for text, style in lines(row):
            say(text, style)
