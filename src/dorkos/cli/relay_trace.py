"""`dorkos relay trace` and `dorkos relay metrics`: what one message led to, and all of them together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.options import options_of
from dorkos.cli.render import print_facts, say, show, state_style

_WIDTH = 30


def trace(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Id of a message, or of a chain.")],
    *,
    chain: Annotated[bool, typer.Option("--chain", help="The id is that of a chain or run.")] = False,
) -> None:
    """Show what a message led to: messages, runs and replies, each under its cause, with their times.

    Example:

        dorkos relay trace 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    path = (
        address("/api/relay/traces", message) if chain else address("/api/relay/messages", message, "trace")
    )
    with connect(options) as client:
        show(options, client.get(path), _told)


def metrics(context: typer.Context) -> None:
    """Show how many messages wait, arrived and stopped, why, and how long deliveries took in the last day.

    Example:

        dorkos relay metrics
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get("/api/relay/trace/metrics"), _told_metrics)


def _told_metrics(answer: Any) -> None:
    print_facts(
        (
            ("messages", str(answer["totalMessages"])),
            ("waiting", str(answer["pendingCount"])),
            ("delivered", str(answer["deliveredCount"])),
            ("dead letters", str(answer["deadLetteredCount"])),
            ("open mailboxes", str(answer["activeEndpoints"])),
            ("open circuits", str(answer["openCircuits"])),
            ("half within", _ms(answer["p50DeliveryLatencyMs"])),
            ("95 of 100 within", _ms(answer["p95DeliveryLatencyMs"])),
            ("99 of 100 within", _ms(answer["p99DeliveryLatencyMs"])),
        )
    )
    for reason, count in answer["rejections"].items():
        say(f"  stopped, {reason}: {count}")


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} ms"


def _told(answer: Any) -> None:
    spans = answer["spans"]
    total = max((span["offsetMs"] + span.get("durationMs", 0) for span in spans), default=0)
    say(f"Chain {answer['traceId']}, {total} ms")
    for span in spans:
        say(f"{_bar(span, total)}  {'  ' * span['depth']}{_what(span)}", state_style(span["status"]))
        if span["errorMessage"]:
            say(f"{' ' * (_WIDTH + 2)}  {'  ' * span['depth']}{span['errorMessage']}")
    if answer.get("truncated"):
        say("The chain has more than is shown.")


def _what(span: Any) -> str:
    took = f"{span['durationMs']} ms" if "durationMs" in span else "under way"
    if span["kind"] == "run":
        return f"run {span['id']}  {span['status']}  {took}"
    return f"{span.get('from') or '-'} -> {span.get('endpoint') or span['subject']}  {span['status']}  {took}"


def _bar(span: Any, total: int) -> str:
    """Where in the whole time it lies, as a line of dots and signs."""
    if total == 0:
        return "=" * _WIDTH
    begin = min(_WIDTH - 1, int(span["offsetMs"]) * _WIDTH // total)
    length = int(span.get("durationMs", total - span["offsetMs"])) * _WIDTH // total
    return ("." * begin + "=" * max(1, length))[:_WIDTH].ljust(_WIDTH, ".")
