"""`dorkos mesh`: agents, and paths that must not become agents."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Annotated

import typer

from dorkos.cli import mesh_agents, mesh_text, mesh_view
from dorkos.cli.connection import address, connect
from dorkos.cli.mesh_discover import show_live
from dorkos.cli.names import agent_id
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import print_json, say, show
from dorkos.cli.typed import absolute

app = typer.Typer(
    help="Who the agents are and where: discovery and registry.", no_args_is_help=True, cls=Noun
)
command = functools.partial(app.command, cls=Command)
command("inspect")(mesh_agents.inspect)
command("update")(mesh_agents.update)
command("move")(mesh_agents.move)
command("token")(mesh_agents.token)
command("ping")(mesh_agents.ping)
command("status")(mesh_view.status)
command("topology")(mesh_view.topology)
command("access")(mesh_view.access)
command("reconcile")(mesh_view.reconcile)

_AGENTS = "/api/mesh/agents"

PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="The directory of the project.")]


@command("discover")
def discover(
    context: typer.Context,
    roots: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROOT", help="Where to look; else the directories of the settings."),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=0, max=20, help="How many levels below each root.")] = None,
) -> None:
    """Look for projects that could be agents. Nothing is run and nothing is registered.

    Each is shown as soon as it is found; with --json all of them when the search is over.

    Example:

        dorkos mesh discover ~/projects --depth 3
    """
    options = options_of(context)
    body: dict[str, object] = {}
    if roots:
        body["roots"] = [absolute(root) for root in roots]
    if depth is not None:
        body["maxDepth"] = depth
    with connect(options) as client:
        if options.json:
            print_json(client.post("/api/mesh/discover", body))
        else:
            show_live(client, body)


@command("schema")
def schema(_context: typer.Context) -> None:
    """Print the JSON Schema of a manifest, `.dork/agent.json`. Needs no server.

    Example:

        dorkos mesh schema > agent.schema.json
    """
    published = files("dorkos.mesh").joinpath("agent.schema.json").read_text(encoding="utf-8")
    print_json(json.loads(published))


@command("register")
def register(
    context: typer.Context,
    path: PathArgument,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call it; else as its manifest says, or its directory."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="RUNTIME", help="What drives it: claude-code, codex, gemini, command, …"),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Part of its address; else after its directory.")
    ] = None,
) -> None:
    """Register the project at a path as an agent, and open its mailbox. Again, to re-read its manifest.

    Example:

        dorkos mesh register ~/projects/scout
    """
    options = options_of(context)
    given = {"name": name, "runtime": runtime, "namespace": namespace}
    overrides = {key: value for key, value in given.items() if value is not None}
    body: dict[str, object] = {"path": absolute(path)}
    if overrides:
        body["overrides"] = overrides
    with connect(options) as client:
        show(options, client.post(_AGENTS, body), mesh_text.registered)


@command("list")
def list_agents(
    context: typer.Context,
    *,
    runtime: Annotated[
        str | None, typer.Option(metavar="RUNTIME", help="Only those that it drives, such as claude-code.")
    ] = None,
    capability: Annotated[
        str | None, typer.Option(metavar="WORD", help="Only those that can do this.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Only those of this namespace.")
    ] = None,
    health: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only those that are so, such as stale or stuck.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only those whose name, description or path holds it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 500,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where the last page ended.")
    ] = None,
) -> None:
    """Show the registered agents and how they are.

    Example:

        dorkos mesh list --capability code --health active
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get(
            _AGENTS,
            runtime=runtime,
            capability=capability,
            namespace=namespace,
            health=health,
            text=text,
            limit=limit,
            cursor=cursor,
        )
        show(options, found, mesh_text.agents)


@command("unregister")
def unregister(
    context: typer.Context,
    agent: Annotated[
        str, typer.Argument(metavar="AGENT", help="Id of the agent, or its name if no other has it.")
    ],
) -> None:
    """Remove an agent: its mailbox is closed and its schedules are deleted. Its files stay as they are.

    Example:

        dorkos mesh unregister scout
    """
    options = options_of(context)
    with connect(options) as client:
        chosen = agent_id(client, agent)
        show(options, client.delete(address(_AGENTS, chosen)), lambda _: say(f"Removed {agent}."))


@command("deny")
def deny(
    context: typer.Context,
    path: PathArgument,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for whoever asks later.")] = None,
) -> None:
    """Forbid that a path, or anything below it, is registered.

    Example:

        dorkos mesh deny ~/projects/old --reason 'Replaced by scout.'
    """
    options = options_of(context)
    denied = absolute(path)
    body: dict[str, object] = {"path": denied}
    if reason is not None:
        body["reason"] = reason
    with connect(options) as client:
        show(options, client.post("/api/mesh/deny", body), lambda _: say(f"Denied {denied}."))


@command("denied")
def denied_paths(context: typer.Context) -> None:
    """Show the denied paths.

    Example:

        dorkos mesh denied
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get("/api/mesh/denied"), mesh_text.denied)


@command("allow")
def allow(context: typer.Context, path: PathArgument) -> None:
    """Lift the denial of a path.

    Example:

        dorkos mesh allow ~/projects/old
    """
    options = options_of(context)
    allowed = absolute(path)
    with connect(options) as client:
        answer = client.delete(address("/api/mesh/denied", allowed))
        show(options, answer, lambda _: say(f"Allowed {allowed}."))
