"""`dorkos mcp`: MCP over standard input and output, for clients that start their servers themselves."""

from __future__ import annotations

import asyncio
import os

import typer

from dorkos.cli.options import options_of
from dorkos.cli.render import notice


def mcp(context: typer.Context) -> None:
    """Speak MCP on standard input and output.

    Requests go to the running server, with DORKOS_TOKEN if it is set, else as the operator. While no
    server runs, each call opens the data directory by itself. Agents that can speak HTTP need none of
    this: they use the address of the server with `/mcp` behind it.

    Example:

        dorkos mcp
    """
    from dorkos.cli.mcp_bridge import Bridge
    from dorkos.cli.mcp_server import McpServer

    server = McpServer(options_of(context), os.environ, say=notice)
    asyncio.run(Bridge(server, source=0, sink=1).run())
