"""`dorkos mesh` on all agents: counts, who reaches whom, a look at their folders."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from dorkos.cli.connection import connect
from dorkos.cli.instants import local_time, zone_label
from dorkos.cli.names import names_by_subject
from dorkos.cli.options import options_of
from dorkos.cli.render import Column, count, notice, print_facts, print_table, say, show


class Way(StrEnum):
    """Whether the way from one namespace to another is open."""

    ALLOW = "allow"
    DENY = "deny"


def status(context: typer.Context) -> None:
    """Count the agents by how they are.

    Example:

        dorkos mesh status
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get("/api/mesh/status"), _told_status)


def topology(
    context: typer.Context,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Through the eyes of its agents; else everything."),
    ] = None,
) -> None:
    """Show who may send to whom, and who did in the last 24 hours.

    Example:

        dorkos mesh topology --namespace team
    """
    options = options_of(context)
    with connect(options) as client:
        view = client.get("/api/mesh/topology", namespace=namespace)
        show(options, view, _told_topology)


def access(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The namespace of those who send.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The namespace of those who are sent to.")],
    way: Annotated[Way, typer.Argument(metavar="allow|deny", help="Open the way, or take that back.")],
) -> None:
    """Let the agents of a namespace send to those of another, in this one direction; or no longer.

    Example:

        dorkos mesh access team tools allow
    """
    options = options_of(context)
    body = {"sourceNamespace": source, "targetNamespace": target, "action": way.value}
    with connect(options) as client:
        answer = client.put("/api/mesh/topology/access", body)
        may = "may send" if way is Way.ALLOW else "may no longer send"
        show(options, answer, lambda _: say(f"Agents of {source} {may} to {target}."))


def reconcile(context: typer.Context) -> None:
    """Look at the folder of every agent now, as the server does by itself. Nothing is deleted by it.

    Example:

        dorkos mesh reconcile
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.post("/api/mesh/reconcile"), _told_reconcile)


def _told_status(found: Any) -> None:
    say(count(found["totalAgents"], "agent"))
    states = ("active", "inactive", "stale", "unreachable", "stuck")
    print_facts((state, str(found[f"{state}Count"])) for state in states if found[f"{state}Count"])
    if found["byRuntime"]:
        say("")
        print_facts(sorted((runtime, str(number)) for runtime, number in found["byRuntime"].items()))


def _told_topology(view: Any) -> None:
    names = names_by_subject(agent for each in view["namespaces"] for agent in each["agents"])
    for namespace in view["namespaces"]:
        say(f"{namespace['namespace']} ({count(namespace['agentCount'], 'agent')})", "bold")
        print_facts(
            (f"  {agent['name']}", f"{agent['health']}, {agent['relaySubject']}")
            for agent in namespace["agents"]
        )
    if not view["namespaces"]:
        say("No agents here.")
    rules = [edge for edge in view["edges"] if edge["kind"] == "rule"]
    if rules:
        say("")
        print_table(
            rules,
            (
                Column("rule", lambda row: row["action"]),
                Column("from", lambda row: names.get(row["source"], row["source"]), shrinks=True),
                Column("to", lambda row: names.get(row["target"], row["target"]), shrinks=True),
                Column("priority", lambda row: str(row["priority"]), right=True),
            ),
            empty="",
        )
    traffic = [edge for edge in view["edges"] if edge["kind"] == "traffic"]
    if traffic:
        say("")
        print_table(
            traffic,
            (
                Column("sent by", lambda row: names.get(row["source"], row["source"]), shrinks=True),
                Column("to", lambda row: names.get(row["target"], row["target"]), shrinks=True),
                Column("messages", lambda row: str(row["messages"]), right=True),
                Column("stopped", lambda row: str(row["stopped"]), right=True),
                Column(f"last ({zone_label()})", lambda row: local_time(row["lastAt"])),
            ),
            empty="",
        )
    if not view["rulesEnforced"]:
        notice("Publishing does not ask these rules: every agent reaches every other.")


def _told_reconcile(done: Any) -> None:
    say(f"Looked at {count(done['lookedAt'], 'agent')}.")
    changes = ("unreachable", "archived", "returned", "updated", "waiting")
    print_facts((change, ", ".join(done[change])) for change in changes if done[change])
    for problem in done["problems"]:
        notice(f"{problem['path']}: {problem['reason']}")
