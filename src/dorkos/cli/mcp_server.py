"""Whom a bridge sends its requests to: the running server, else the system in this process for one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from dorkos import __version__
from dorkos.cli.client import refusal_of, trust
from dorkos.cli.mcp_messages import RpcRequest
from dorkos.cli.options import Options
from dorkos.cli.target import data_directory, find_token, find_url, recorded_url
from dorkos.errors import DorkError, ErrorCode

_PATH = "/mcp"
_LOCAL = "http://localhost"
_CONNECT_S = 5.0
# A claim may wait for half a minute, and a discovery may search a large disk.
_ANSWER_S = 300.0
# Whoever else opens the directory for a call is soon done, on a busy machine after some seconds; a server
# that starts says where it is.
_TRIES = 75
_TRY_AGAIN_S = 0.2


class McpServer:
    """Answers requests. Where the server is and what the token is, is looked up anew each time."""

    def __init__(
        self, options: Options, environment: Mapping[str, str], *, say: Callable[[str], None]
    ) -> None:
        """`say` gets what a person should know, such as that the database was migrated."""
        self._options = options
        self._environment = environment
        self._home = data_directory(options, environment)
        self._opened = _OpenedSystem(self._home, say)

    async def ask(self, request: RpcRequest, negotiated: str | None) -> dict[str, Any]:
        """The JSON-RPC answer. Raises what is refused outside the protocol."""
        headers = request.headers(negotiated)
        for left in reversed(range(_TRIES)):
            url = find_url(self._options, self._environment)
            headers["Authorization"] = f"Bearer {find_token(self._options, self._environment, url)}"
            if self._is_named or recorded_url(self._home) is not None:
                try:
                    return await self._post(url, request, headers)
                except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
                    # The address may be left over from a server that was killed.
                    if self._is_named:
                        raise _not_running(url) from fault
            try:
                async with self._opened.application() as application:
                    return await _post(httpx.ASGITransport(application), _LOCAL, request, headers)
            except DorkError as refusal:
                if refusal.code is not ErrorCode.HOME_LOCKED or not left:
                    raise
            await asyncio.sleep(_TRY_AGAIN_S)
        raise AssertionError("the last try returns or raises")

    @property
    def _is_named(self) -> bool:
        """Whether a person said which server it is; no other is taken in its place then."""
        return bool(self._options.url or self._environment.get("DORKOS_URL"))

    async def _post(self, url: str, request: RpcRequest, headers: Mapping[str, str]) -> dict[str, Any]:
        # No connection is kept: one that died with its server would leave in doubt what became of a call.
        transport = httpx.AsyncHTTPTransport(
            verify=trust(url), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        return await _post(transport, url, request, headers)


class _OpenedSystem:
    """The system in this process, open for as long as a call is under way and no longer."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._calls = 0
        self._door = asyncio.Lock()
        self._open = AsyncExitStack()
        self._application: Any = None

    @asynccontextmanager
    async def application(self) -> AsyncIterator[Any]:
        """The ASGI application. Raises `home_locked` while somebody else holds the directory."""
        async with self._door:
            if self._calls == 0:
                opened = await asyncio.to_thread(_import_opened)
                system = await self._open.enter_async_context(opened(self._home, echo=self._say))
                self._application = system.application
            self._calls += 1
        try:
            yield self._application
        finally:
            await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        async with self._door:
            self._calls -= 1
            if self._calls == 0:
                await self._open.aclose()


def _import_opened() -> Any:
    from dorkos.offline import opened

    return opened


async def _post(
    transport: httpx.AsyncBaseTransport, url: str, request: RpcRequest, headers: Mapping[str, str]
) -> dict[str, Any]:
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    async with httpx.AsyncClient(transport=transport, base_url=url, timeout=timeout) as client:
        client.headers["User-Agent"] = f"dorkos/{__version__}"
        try:
            response = await client.post(_PATH, content=request.body, headers=dict(headers))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.HTTPError as fault:
            raise _lost(url, request, fault) from fault
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict) and answer.get("jsonrpc") == "2.0":
        # What could not be understood has no id; whoever asked has to know that it is theirs.
        return {**answer, "id": request.id}
    raise refusal_of(response, url)


def _not_running(url: str) -> DorkError:
    return DorkError(
        ErrorCode.NOT_RUNNING,
        f"No DorkOS server answers at {url}.",
        hint="Start one with `dorkos up`, or name another with --url.",
    )


def _lost(url: str, request: RpcRequest, fault: httpx.HTTPError) -> DorkError:
    why = str(fault) or type(fault).__name__
    if request.method == "tools/call":
        return DorkError(
            ErrorCode.OUTCOME_UNKNOWN,
            f"The answer of {url} was lost ({why}); what the call changes may have happened.",
            hint="Look before you repeat it.",
        )
    return DorkError(ErrorCode.NOT_RUNNING, f"The connection to {url} broke ({why}).", hint="Ask again.")
