"""Drives any agent that speaks the Agent Client Protocol, in the driver's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from acp import PROTOCOL_VERSION, RequestError, text_block
from acp.client.connection import ClientSideConnection
from acp.schema import (
    AgentCapabilities,
    ClientCapabilities,
    ElicitationCapabilities,
    ElicitationFormCapabilities,
    EnvVariable,
    FileSystemCapabilities,
    HttpHeader,
    HttpMcpServer,
    Implementation,
    McpServerStdio,
    PromptResponse,
)

from dorkos import __version__
from dorkos.runtimes.acp_client import AgentClient
from dorkos.runtimes.driver import DriverRequest, Emit, UnavailableError
from dorkos.runtimes.events import Log, Result, ResultStatus, Session, Usage
from dorkos.vocabulary import PermissionMode

_SERVER = "dorkos"
_LINE_BYTES = 50 * 1024 * 1024
_END_S = 3.0
_AUTHENTICATE = -32000
_REASONS = {
    "max_tokens": "The agent reached the most tokens it may write in a turn.",
    "max_turn_requests": "The agent reached the most model calls of a turn.",
    "refusal": "The agent refused to go on.",
}


class _SessionLostError(Exception):
    """The session that was to go on cannot."""


async def drive(request: DriverRequest, emit: Emit) -> Result:
    """Take one turn of the agent that `argv` starts. See `Driver`."""
    client = AgentClient(emit, PermissionMode(request.permission_mode), request.cwd)
    async with _agent(request, client) as (connection, process):
        try:
            return await _turn(request, client, connection, emit)
        except _SessionLostError as fault:
            return Result(ResultStatus.FAILED, kind="session_lost", error=str(fault))
        except RequestError as fault:
            return _refused(fault, request.argv[0])
        except ConnectionError:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _END_S)
            return Result(ResultStatus.FAILED, kind="agent_ended", error=_ended(process.returncode))


@contextlib.asynccontextmanager
async def _agent(
    request: DriverRequest, client: AgentClient
) -> AsyncIterator[tuple[ClientSideConnection, asyncio.subprocess.Process]]:
    """The agent's process, which is over at the end of the block with every command that it ran by us."""
    if not request.argv:
        raise UnavailableError("No program is named.", hint="Name one as `command` or as `entrypoint`.")
    try:
        process = await asyncio.create_subprocess_exec(
            *request.argv,
            cwd=request.cwd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
    except OSError as fault:
        raise UnavailableError(
            f"The program {request.argv[0]!r} cannot be started: {fault.strerror}.",
            hint="Install it, or name it by its full path.",
        ) from fault
    try:
        connection = ClientSideConnection(client, process.stdin, process.stdout, use_unstable_protocol=True)
        try:
            yield connection, process
        finally:
            await client.terminals.close()
            await connection.close()
    finally:
        await _end(process)


def _ended(code: int | None) -> str:
    if code is None:
        return "The agent closed its connection in the middle of its turn, and went on without it."
    return f"The agent ended in the middle of its turn (exit code {code})."


async def _end(process: asyncio.subprocess.Process) -> None:
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)


async def _turn(
    request: DriverRequest, client: AgentClient, connection: ClientSideConnection, emit: Emit
) -> Result:
    hello = await connection.initialize(
        PROTOCOL_VERSION,
        ClientCapabilities(
            fs=FileSystemCapabilities(read_text_file=True, write_text_file=True),
            terminal=True,
            elicitation=ElicitationCapabilities(form=ElicitationFormCapabilities()),
        ),
        Implementation(name="dorkos", version=__version__),
    )
    if hello.protocol_version != PROTOCOL_VERSION:
        error = f"The agent speaks version {hello.protocol_version} of the protocol, not {PROTOCOL_VERSION}."
        return Result(ResultStatus.FAILED, kind="protocol_version", error=error)
    if hello.agent_info is not None:
        emit(Log(f"{hello.agent_info.name} {hello.agent_info.version}"))
    session, model = await _session(request, connection, hello.agent_capabilities or AgentCapabilities())
    emit(Session(session))
    client.listening = True
    blocks: list[Any] = [text_block(part) for part in (request.system_context, request.prompt) if part]
    asking = asyncio.ensure_future(connection.prompt(session, blocks))
    try:
        answer = await asyncio.shield(asking)
    except asyncio.CancelledError:
        await _cancel(connection, session, asking)
        raise
    emit(_usage(answer, model, None if request.resume else client.cost))
    return _result(answer, client)


async def _session(
    request: DriverRequest, connection: ClientSideConnection, able: AgentCapabilities
) -> tuple[str, str | None]:
    """A new session, or the one that goes on; and the model, where the agent tells it."""
    servers = _servers(request.mcp_url, able)
    if request.resume is None:
        made = await connection.new_session(request.cwd, mcp_servers=servers)
        await _set_mode(request, connection, made.session_id, made)
        return made.session_id, _model(made)
    try:
        if able.session_capabilities is not None and able.session_capabilities.resume is not None:
            found: Any = await connection.resume_session(request.resume, request.cwd, mcp_servers=servers)
        elif able.load_session:
            found = await connection.load_session(request.cwd, request.resume, mcp_servers=servers)
        else:
            raise _SessionLostError("The agent cannot go on with a session: it supports neither way.")
    except RequestError as fault:
        if fault.code == _AUTHENTICATE:
            raise
        raise _SessionLostError(f"The agent cannot go on with {request.resume}: {fault}.") from fault
    await _set_mode(request, connection, request.resume, found)
    return request.resume, _model(found)


async def _set_mode(
    request: DriverRequest, connection: ClientSideConnection, session: str, opened: Any
) -> None:
    """Planning is something the agent does itself; all other rights are answered by us."""
    modes = getattr(opened, "modes", None)
    known = {mode.id for mode in modes.available_modes} if modes is not None else set()
    if request.permission_mode == PermissionMode.PLAN and "plan" in known:
        await connection.set_session_mode(session, "plan")


def _model(opened: Any) -> str | None:
    for option in getattr(opened, "config_options", None) or ():
        if option.id == "model":
            return str(option.current_value)
    return None


def _servers(url: str | None, able: AgentCapabilities) -> list[Any]:
    """Our tools: over HTTP where the agent can, else by the program that every agent can start."""
    token = os.environ.get("DORKOS_TOKEN")
    if url is None or not token:
        return []
    if able.mcp_capabilities is not None and able.mcp_capabilities.http:
        header = HttpHeader(name="Authorization", value=f"Bearer {token}")
        return [HttpMcpServer(type="http", name=_SERVER, url=url, headers=[header])]
    names = ("DORKOS_URL", "DORKOS_TOKEN", "HOME", "PATH")
    given = [EnvVariable(name=name, value=os.environ[name]) for name in names if name in os.environ]
    return [
        McpServerStdio(name=_SERVER, command=sys.executable, args=["-P", "-m", "dorkos", "mcp"], env=given)
    ]


async def _cancel(
    connection: ClientSideConnection, session: str, asking: asyncio.Future[PromptResponse]
) -> None:
    """Ask the agent to give up, and give it a moment to say that it did."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_END_S):
            await connection.cancel(session)
            await asking
    asking.cancel()


def _usage(answer: PromptResponse, model: str | None, cost: float | None) -> Usage:
    used = answer.usage
    return Usage(
        model,
        None if used is None else used.input_tokens,
        None if used is None else used.output_tokens,
        None if cost is None else round(cost * 1_000_000),
    )


def _result(answer: PromptResponse, client: AgentClient) -> Result:
    if client.question is not None:
        return Result(ResultStatus.BLOCKED)
    if answer.stop_reason == "end_turn":
        return Result(ResultStatus.COMPLETED)
    if answer.stop_reason == "cancelled":
        return Result(ResultStatus.CANCELLED)
    return Result(ResultStatus.FAILED, kind=answer.stop_reason, error=_REASONS.get(answer.stop_reason))


def _refused(fault: RequestError, program: str) -> Result:
    if fault.code == _AUTHENTICATE:
        raise UnavailableError(
            f"The agent {program!r} wants a login.", hint="Log in with its own program first, then run again."
        ) from fault
    details = fault.data.get("details") if isinstance(fault.data, dict) else None
    error = f"{fault}: {details}" if details else str(fault)
    return Result(ResultStatus.FAILED, kind="agent_error", error=error)
