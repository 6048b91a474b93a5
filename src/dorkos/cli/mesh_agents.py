"""`dorkos mesh` on one agent: how it is, what is changed of it, whether it answers."""

from __future__ import annotations

from typing import Annotated

import typer

from dorkos.cli import mesh_agents_text
from dorkos.cli.connection import address, connect
from dorkos.cli.names import agent_id
from dorkos.cli.options import options_of
from dorkos.cli.render import say, show
from dorkos.cli.typed import absolute
from dorkos.errors import DorkError, ErrorCode

_AGENTS = "/api/mesh/agents"

AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="Id of the agent, or its name if no other has it.")
]


def inspect(context: typer.Context, agent: AgentArgument) -> None:
    """Show all that is known of an agent: how it is and why, what it may spend, what its manifest says.

    Example:

        dorkos mesh inspect scout
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get(address(_AGENTS, agent_id(client, agent), "inspect"))
        show(options, found, mesh_agents_text.inspected)


def update(
    context: typer.Context,
    agent: AgentArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What to call it.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    capabilities: Annotated[
        list[str] | None,
        typer.Option("--capability", metavar="WORD", help="What it can do; may be given several times."),
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--max-calls", min=1, help="Messages sent and runs started in an hour.")
    ] = None,
    hops: Annotated[
        int | None, typer.Option("--max-hops", min=1, help="Messages in a chain that it takes part in.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Which messages start a run: always, direct-only, … or silent."),
    ] = None,
    persona: Annotated[str | None, typer.Option(metavar="TEXT", help="Who it is to be.")] = None,
    color: Annotated[str | None, typer.Option(metavar="COLOR", help="A colour to show it in.")] = None,
    icon: Annotated[str | None, typer.Option(metavar="ICON", help="An icon to show it by.")] = None,
) -> None:
    """Change an agent, in the registry and in its manifest. An empty text takes away.

    Example:

        dorkos mesh update scout --max-calls 20 --description 'Reads the news.'
    """
    options = options_of(context)
    given: dict[str, object | None] = {
        "name": name,
        "description": description,
        "capabilities": capabilities or None,
        "persona": persona,
        "color": color,
        "icon": icon,
    }
    body = {key: value for key, value in given.items() if value is not None}
    budget = {"maxCallsPerHour": calls, "maxHopsPerMessage": hops}
    if any(budget.values()):
        body["budget"] = {key: value for key, value in budget.items() if value is not None}
    if mode is not None:
        body["behavior"] = {"responseMode": mode}
    if not body:
        raise DorkError(ErrorCode.USAGE, "Say what to change.", hint="dorkos mesh update --help")
    with connect(options) as client:
        changed = client.patch(address(_AGENTS, agent_id(client, agent)), body)
        show(options, changed, mesh_agents_text.updated)


def move(
    context: typer.Context,
    agent: AgentArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where its folder is now.")],
) -> None:
    """Say that an agent's folder was moved. Its id, mailbox, schedules and history go with it.

    Refused while the old folder is still there: the other one is a copy then.

    Example:

        dorkos mesh move scout ~/projects/agents/scout
    """
    options = options_of(context)
    with connect(options) as client:
        moved = client.post(address(_AGENTS, agent_id(client, agent), "move"), {"path": absolute(path)})
        show(options, moved, lambda _: say(f"{moved['name']} is at {moved['projectPath']} now."))


def token(context: typer.Context, agent: AgentArgument) -> None:
    """Make a new long-lived token for an agent, and end the one before.

    It is shown this once. What holds it may send and receive as the agent. Runs of the agent need none:
    each gets its own.

    Example:

        dorkos mesh token scout
    """
    options = options_of(context)
    with connect(options) as client:
        made = client.post(address(_AGENTS, agent_id(client, agent), "token"))
        show(options, made, mesh_agents_text.token)


def ping(
    context: typer.Context,
    agent: AgentArgument,
    timeout: Annotated[int, typer.Option(min=1, max=600, help="Seconds to wait for the answer.")] = 30,
) -> None:
    """Ask an agent for a sign of life, and wait for its reply. Exits with 1 if there is none.

    The whole way is tried: the message, the run that it starts if messages start runs of the agent, and
    the reply. It costs what a message to the agent costs.

    Example:

        dorkos mesh ping scout --timeout 60
    """
    options = options_of(context)
    with connect(options) as client:
        path = address(_AGENTS, agent_id(client, agent), "ping")
        answer = client.post(path, {"timeoutSeconds": timeout}, wait_s=timeout)
        show(options, answer, mesh_agents_text.pinged)
    if not answer["answered"]:
        raise typer.Exit(1)
