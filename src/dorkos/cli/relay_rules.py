"""`dorkos relay rules` and `dorkos relay explain`: who may send to whom."""

from __future__ import annotations

import functools
from enum import StrEnum
from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import Column, notice, print_table, say, show

_RULES = "/api/relay/rules"

app = typer.Typer(cls=Noun, invoke_without_command=True)
command = functools.partial(app.command, cls=Command)

FromArgument = Annotated[
    str, typer.Argument(metavar="FROM", help="Who sends: a subject, or a pattern with * and >.")
]
ToArgument = Annotated[str, typer.Argument(metavar="TO", help="What is sent to: a subject, or a pattern.")]


class Verdict(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"


@app.callback()
def rules(context: typer.Context) -> None:
    """Show the access rules in the order in which they decide: the first that matches.

    Where none matches, agents of different namespaces do not reach one another,
    and everything else may be sent.

    Example:

        dorkos relay rules
        dorkos relay rules add 'relay.agent.>' relay.human.ada deny
    """
    if context.invoked_subcommand is None:
        _show(context)


@command("list")
def list_rules(context: typer.Context) -> None:
    """Show the access rules in the order in which they decide.

    Example:

        dorkos relay rules list
    """
    _show(context)


@command("add")
def add(
    context: typer.Context,
    sender: FromArgument,
    target: ToArgument,
    verdict: Annotated[Verdict, typer.Argument(metavar="allow|deny", help="What becomes of the message.")],
    *,
    priority: Annotated[
        int, typer.Option(metavar="NUMBER", help="The highest decides; registrations use up to 100.")
    ] = 200,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
) -> None:
    """Add a rule. It binds the next message that anybody sends.

    A rule with the same patterns and priority is replaced by it.

    Example:

        dorkos relay rules add 'relay.agent.>' relay.human.ada deny
    """
    options = options_of(context)
    body: dict[str, object] = {"from": sender, "to": target, "action": verdict.value, "priority": priority}
    if description is not None:
        body["description"] = description
    with connect(options) as client:
        show(options, client.post(_RULES, body), _told_added)


@command("remove")
def remove(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="Id of the rule.")],
) -> None:
    """Remove a rule. One that belongs to a namespace of agents goes with them.

    Example:

        dorkos relay rules remove 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.delete(address(_RULES, rule)), lambda _: say(f"Removed {rule}."))


def explain(
    context: typer.Context,
    sender: Annotated[str, typer.Argument(metavar="FROM", help="The sender's address.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The subject that would be sent to.")],
) -> None:
    """Say whether one address may send to another, which rule decides, and what would change it.

    Example:

        dorkos relay explain relay.human.ada relay.human.bob
    """
    options = options_of(context)
    with connect(options) as client:
        answer = client.get("/api/relay/explain", **{"from": sender, "to": target})
        show(options, answer, _told_explanation)


def _show(context: typer.Context) -> None:
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(_RULES), _told_rules)


def _told_rules(rows: Any) -> None:
    print_table(
        rows,
        (
            Column("priority", lambda row: str(row["priority"]), right=True),
            Column("action", lambda row: row["action"]),
            Column("from", lambda row: row["from"]),
            Column("to", lambda row: row["to"]),
            Column("made for", lambda row: row["managedBy"] or row["description"], shrinks=True),
            Column("id", lambda row: row["id"]),
        ),
        empty="No access rules. Add one: dorkos relay rules add FROM TO deny",
    )
    for row in rows:
        if row.get("fault"):
            notice(f"The rule {row['id']} denies everything: {row['fault']}.")


def _told_added(rule: Any) -> None:
    say(f"Added {rule['id']}: {rule['action']} {rule['from']} -> {rule['to']}, priority {rule['priority']}.")
    if rule["contradicts"]:
        say("These say the opposite about some of the same messages; the higher priority decides:")
        for other in rule["contradicts"]:
            say(f"  {other}")


def _told_explanation(answer: Any) -> None:
    may = "may" if answer["allowed"] else "may NOT"
    say(f"{answer['from']} {may} send to {answer['to']}.", "green" if answer["allowed"] else "red")
    say(f"  {answer['why']}")
    if answer["changes"]:
        say("To change that:")
        for change in answer["changes"]:
            say(f"  {change['command']}")
    _told_limits(answer)


def _told_limits(answer: Any) -> None:
    mailbox = answer["mailbox"]
    if mailbox is None:
        say(f"{answer['to']} has no mailbox.", "yellow")
    elif not mailbox["isOpen"]:
        say("Its mailbox is closed.", "yellow")
    elif mailbox["breaker"] != "closed":
        say("Its mailbox takes nothing at the moment: deliveries failed too often.", "yellow")
    for limit in answer["limits"]:
        style = "red" if limit["stops"] else ""
        say(f"{limit['limit']}: {limit['used']} of {limit['allowed']}. {limit['detail']}", style)
    for stop in answer["stopped"]:
        say(f"Stopped: {stop['messageId']}  {stop['reason']}", "red")
        say(f"  {stop['detail']}")
