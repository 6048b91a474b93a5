"""One request about the fleet's mode, to the server, or, while none runs, to the database in this process.

A hold may have to be lifted before the first start. The directory's lock decides that there is no server;
tokens count as they do with one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dorkos.cli.connection import connect
from dorkos.cli.options import Options
from dorkos.cli.render import notice
from dorkos.cli.target import data_directory, find_token, find_url, recorded_url
from dorkos.errors import DorkError, ErrorCode

Method = Literal["GET", "POST"]

_HERE = "http://localhost"


def ask(options: Options, method: Method, path: str, body: Mapping[str, object] | None = None) -> Any:
    """The answer as JSON. Raises the refusals of both ways; `not_running` where nothing was ever stored."""
    home = data_directory(options, os.environ)
    # Of a server that was named by hand, "it does not run" is the answer.
    named = bool(options.url or os.environ.get("DORKOS_URL"))
    if named or recorded_url(home) is not None:
        try:
            return _ask_server(options, method, path, body)
        except DorkError as refusal:
            # The address may be left over from a server that was killed.
            if named or refusal.code is not ErrorCode.NOT_RUNNING:
                raise
    if not _holds_state(home):
        return _ask_server(options, method, path, body)
    try:
        return asyncio.run(_ask_here(options, home, method, path, body))
    except DorkError as refusal:
        if refusal.code is not ErrorCode.HOME_LOCKED:
            raise
        # A server that has not written its address, or not yet.
        return _ask_server(options, method, path, body)


def _ask_server(options: Options, method: Method, path: str, body: Mapping[str, object] | None) -> Any:
    with connect(options) as client:
        return client.get(path) if method == "GET" else client.post(path, body)


async def _ask_here(
    options: Options, home: Path, method: Method, path: str, body: Mapping[str, object] | None
) -> Any:
    import httpx

    from dorkos.cli.client import refusal_of
    from dorkos.offline import opened_fleet

    async with opened_fleet(home, echo=notice) as application:
        # Only then: the operator's token is made when a directory is opened for the first time.
        token = find_token(options, os.environ, find_url(options, os.environ))
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url=_HERE) as client:
            headers = {"Authorization": f"Bearer {token}"}
            response = await client.request(method, path, json=body, headers=headers)
    if response.is_error:
        raise refusal_of(response, _HERE)
    return response.json()


def _holds_state(home: Path) -> bool:
    from dorkos.settings import load_settings

    if (home / "dork.db").exists():
        return True
    if not home.is_dir():
        return False
    return load_settings(home / "config.toml", environment=os.environ).values.database.url is not None
