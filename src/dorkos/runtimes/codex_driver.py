"""Drives Codex by its SDK, in the driver's process.

Codex keeps the rights by its own sandbox, and nothing is ever asked for: what the sandbox does not allow
fails. It tells its model that no question can be asked, so none of its runs ends as blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

from openai_codex import (
    ApprovalMode,
    AsyncCodex,
    AsyncThread,
    CodexConfig,
    CodexRpcError,
    Sandbox,
    TransportClosedError,
    __version__,
)
from openai_codex.generated.v2_all import (
    AgentMessageDeltaNotification,
    AgentMessageThreadItem,
    CommandExecutionThreadItem,
    ErrorNotification,
    FileChangeThreadItem,
    ItemCompletedNotification,
    ItemStartedNotification,
    McpToolCallThreadItem,
    ThreadTokenUsageUpdatedNotification,
    TurnCompletedNotification,
    TurnStatus,
)

from dorkos.runtimes.availability import install_hint
from dorkos.runtimes.driver import DriverRequest, Emit, UnavailableError
from dorkos.runtimes.events import Log, Result, ResultStatus, Session, Text, ToolCall, ToolStatus, Usage
from dorkos.vocabulary import PermissionMode

_SANDBOXES = {
    PermissionMode.DEFAULT: Sandbox.read_only,
    PermissionMode.PLAN: Sandbox.read_only,
    PermissionMode.ACCEPT_EDITS: Sandbox.workspace_write,
    PermissionMode.BYPASS_PERMISSIONS: Sandbox.full_access,
}
_ENDS = {
    "completed": ToolStatus.COMPLETED,
    "failed": ToolStatus.FAILED,
    "declined": ToolStatus.DENIED,
}
_INTERRUPT_S = 3.0


async def drive(request: DriverRequest, emit: Emit) -> Result:
    """Take one turn with Codex. See `Driver`."""
    turn = _Turn(emit, model=request.model)
    try:
        async with AsyncCodex(CodexConfig(cwd=request.cwd, client_name="dorkos")) as codex:
            emit(Log(f"openai-codex {__version__}, {codex.metadata.userAgent or 'codex'}"))
            try:
                thread = await _thread(codex, request)
            except CodexRpcError as fault:
                kind = "session_lost" if request.resume else "agent_error"
                return Result(ResultStatus.FAILED, kind=kind, error=fault.message)
            emit(Session(thread.id))
            await _follow(thread, request, turn)
    except FileNotFoundError as fault:
        raise UnavailableError(
            f"The program of Codex is not there: {fault}.",
            hint=install_hint("codex"),
        ) from fault
    except TransportClosedError as fault:
        return Result(ResultStatus.FAILED, kind="agent_ended", error=str(fault))
    return turn.concluded()


async def _thread(codex: AsyncCodex, request: DriverRequest) -> AsyncThread:
    """A new thread, or the one that goes on."""
    given: dict[str, Any] = {
        "approval_mode": ApprovalMode.deny_all,
        "sandbox": _SANDBOXES[PermissionMode(request.permission_mode)],
        "cwd": request.cwd,
        "developer_instructions": request.system_context,
        "config": _config(request.mcp_url),
        "model": request.model,
    }
    if request.resume is not None:
        return await codex.thread_resume(request.resume, **given)
    return await codex.thread_start(**given)


def _config(url: str | None) -> dict[str, Any] | None:
    if url is None or not os.environ.get("DORKOS_TOKEN"):
        return None
    return {"mcp_servers": {"dorkos": {"url": url, "bearer_token_env_var": "DORKOS_TOKEN"}}}


async def _follow(thread: AsyncThread, request: DriverRequest, turn: _Turn) -> None:
    handle = await thread.turn(request.prompt)
    try:
        async for event in handle.stream():
            turn.take(event.payload)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(handle.interrupt(), _INTERRUPT_S)
        raise


@dataclass
class _Turn:
    """What happened so far, told as it happens."""

    emit: Emit
    completed: TurnCompletedNotification | None = None
    error: str | None = None
    streamed: set[str] = field(default_factory=set)
    model: str | None = None
    read: int = 0
    written: int = 0

    def take(self, payload: object) -> None:
        """Tell what a notification says."""
        match payload:
            case AgentMessageDeltaNotification(item_id=item_id, delta=delta):
                self.streamed.add(item_id)
                self.emit(Text(delta))
            case ItemStartedNotification(item=item):
                self._take_item(item.root, started=True)
            case ItemCompletedNotification(item=item):
                self._take_item(item.root, started=False)
            case ThreadTokenUsageUpdatedNotification(token_usage=usage):
                # The total is that of the whole session; this run has what came since it began.
                self.read += usage.last.input_tokens
                self.written += usage.last.output_tokens
                self.emit(Usage(self.model, self.read, self.written))
            case ErrorNotification(error=error):
                self.error = error.message
            case TurnCompletedNotification():
                self.completed = payload
            case _:
                pass

    def _take_item(self, item: object, *, started: bool) -> None:
        match item:
            case AgentMessageThreadItem(id=item_id, text=text) if not started:
                self.emit(Text("\n" if item_id in self.streamed else text + "\n"))
            case CommandExecutionThreadItem(id=item_id, command=command, status=status):
                self._tell(item_id, "shell", status.value, command, started=started)
            case FileChangeThreadItem(id=item_id, status=status):
                self._tell(item_id, "file change", status.value, None, started=started)
            case McpToolCallThreadItem(id=item_id, server=server, tool=tool, status=status, arguments=given):
                self._tell(item_id, f"{server}.{tool}", status.value, given, started=started)
            case _:
                pass

    def _tell(self, call: str, name: str, status: str, given: object, *, started: bool) -> None:
        if started:
            self.emit(ToolCall(call, name, ToolStatus.STARTED, given))
        else:
            self.emit(ToolCall(call, name, _ENDS.get(status, ToolStatus.FAILED)))

    def concluded(self) -> Result:
        """How the turn ended."""
        if self.completed is None:
            return Result(ResultStatus.FAILED, kind="no_result", error=self.error)
        turn = self.completed.turn
        if turn.status is TurnStatus.completed:
            return Result(ResultStatus.COMPLETED)
        if turn.status is TurnStatus.interrupted:
            return Result(ResultStatus.CANCELLED)
        said = turn.error.message if turn.error is not None else self.error
        return Result(ResultStatus.FAILED, kind="agent_error", error=said or "Codex failed.")
