"""Our side of the Agent Client Protocol: what an agent tells us, asks of us, and may do by us."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Any

from acp import RequestError
from acp.schema import (
    AgentMessageChunk,
    AllowedOutcome,
    CancelElicitationResponse,
    CreateTerminalResponse,
    DeniedOutcome,
    EnvVariable,
    KillTerminalResponse,
    PermissionOption,
    ReadTextFileResponse,
    ReleaseTerminalResponse,
    RequestPermissionResponse,
    TerminalExitStatus,
    TerminalOutputResponse,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    UsageUpdate,
    WaitForTerminalExitResponse,
    WriteTextFileResponse,
)

from dorkos.runtimes.acp_terminals import Terminal, Terminals
from dorkos.runtimes.driver import Emit
from dorkos.runtimes.events import Question, Text, ToolCall, ToolStatus
from dorkos.runtimes.rights import covers, inside
from dorkos.vocabulary import PermissionMode

_OVER = {"completed": ToolStatus.COMPLETED, "failed": ToolStatus.FAILED}
_FILE_BYTES = 10 * 1024 * 1024


class AgentClient:
    """Answers an agent by the rights of its run, and tells what it does."""

    def __init__(self, emit: Emit, mode: PermissionMode, cwd: str) -> None:
        """`cwd` is where it may read and write."""
        self.question: Question | None = None
        self.cost: float | None = None
        self.listening = False
        """Off while an old conversation is told again: that is no part of this turn."""
        self.terminals = Terminals()
        self._emit = emit
        self._mode = mode
        self._folder = Path(cwd)
        self._calls: dict[str, ToolCallStart] = {}
        self._ended: set[str] = set()

    async def session_update(self, session_id: str, update: Any, **kwargs: Any) -> None:
        """Tell what the agent says and does."""
        if not self.listening:
            return
        match update:
            case AgentMessageChunk(content=TextContentBlock(text=text)):
                self._emit(Text(text))
            case ToolCallStart():
                self._calls[update.tool_call_id] = update
                self._emit(ToolCall(update.tool_call_id, update.title, ToolStatus.STARTED, update.raw_input))
                self._take_status(update.tool_call_id, update.status)
            case ToolCallProgress():
                self._take_status(update.tool_call_id, update.status)
            case UsageUpdate(cost=cost) if cost is not None and cost.currency.upper() == "USD":
                self.cost = cost.amount
            case _:
                pass

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **kwargs: Any
    ) -> RequestPermissionResponse:
        """Answer for the person who is not there. What is allowed is allowed this once."""
        begun = self._calls.get(tool_call.tool_call_id)
        kind = tool_call.kind or (begun.kind if begun is not None else None)
        places = tool_call.locations or (begun.locations if begun is not None else None) or []
        allowed = covers(self._mode, kind) and (
            self._mode is PermissionMode.BYPASS_PERMISSIONS
            or all(inside(self._folder, place.path) is not None for place in places)
        )
        if not allowed:
            self._tell_end(tool_call.tool_call_id, ToolStatus.DENIED)
        wanted = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
        for word in wanted:
            for option in options:
                if option.kind == word:
                    chosen = AllowedOutcome(outcome="selected", option_id=option.option_id)
                    return RequestPermissionResponse(outcome=chosen)
        return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))

    async def create_elicitation(self, message: str, mode: Any, **kwargs: Any) -> Any:
        """A question to a person: it is kept, and nobody answers it now."""
        schema = getattr(mode, "requested_schema", None)
        self.question = Question(message, _choices(schema))
        self._emit(self.question)
        return CancelElicitationResponse(action="cancel")

    async def complete_elicitation(self, elicitation_id: str, **kwargs: Any) -> None:
        """Nothing waits for it."""

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None, **kwargs: Any
    ) -> ReadTextFileResponse:
        """A file of the working directory, or some of its lines."""
        place = self._place(path)
        try:
            with _opened(place, os.O_RDONLY, "rb") as file:
                text = file.read(_FILE_BYTES).decode("utf-8", "replace")
        except OSError as fault:
            raise RequestError.resource_not_found(path) from fault
        if line is not None or limit is not None:
            lines = text.splitlines(keepends=True)
            start = max(0, (line or 1) - 1)
            text = "".join(lines[start : None if limit is None else start + limit])
        return ReadTextFileResponse(content=text)

    async def write_text_file(
        self, session_id: str, path: str, content: str, **kwargs: Any
    ) -> WriteTextFileResponse:
        """Write a file of the working directory, if the rights cover edits."""
        if not covers(self._mode, "edit"):
            raise _refused("The rights of this run do not cover changes of files.")
        place = self._place(path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with _opened(place, os.O_WRONLY | os.O_CREAT, "wb") as file:
                file.truncate()
                file.write(content.encode("utf-8", "replace"))
        except OSError as fault:
            raise _refused(f"{path} cannot be written: {fault.strerror}.") from fault
        return WriteTextFileResponse()

    async def create_terminal(  # noqa: PLR0917  # The protocol's signature.
        self,
        session_id: str,
        command: str,
        args: list[str] | None = None,
        env: list[EnvVariable] | None = None,
        cwd: str | None = None,
        output_byte_limit: int | None = None,
        **kwargs: Any,
    ) -> CreateTerminalResponse:
        """Run a command, if the rights cover any."""
        if not covers(self._mode, "execute"):
            raise _refused("The rights of this run do not cover commands.")
        place = self._place(cwd or ".")
        given = {each.name: each.value for each in env or ()}
        try:
            name = await self.terminals.start(
                [command, *(args or ())],
                cwd=str(place),
                environment={**os.environ, **given},
                limit=output_byte_limit,
            )
        except OSError as fault:
            raise _refused(f"{command} cannot be started: {fault.strerror}.") from fault
        return CreateTerminalResponse(terminal_id=name)

    async def terminal_output(
        self, session_id: str, terminal_id: str, **kwargs: Any
    ) -> TerminalOutputResponse:
        """What a command has printed so far."""
        terminal = _known(self.terminals.get(terminal_id), terminal_id)
        status = None
        if terminal.exit is not None:
            status = TerminalExitStatus(exit_code=terminal.exit[0], signal=terminal.exit[1])
        return TerminalOutputResponse(output=terminal.text, truncated=terminal.truncated, exit_status=status)

    async def wait_for_terminal_exit(
        self, session_id: str, terminal_id: str, **kwargs: Any
    ) -> WaitForTerminalExitResponse:
        """How a command ended, once it has."""
        terminal = _known(await self.terminals.wait(terminal_id), terminal_id)
        code, number = terminal.exit or (None, None)
        return WaitForTerminalExitResponse(exit_code=code, signal=number)

    async def kill_terminal(self, session_id: str, terminal_id: str, **kwargs: Any) -> KillTerminalResponse:
        """End a command; its output stays."""
        self.terminals.kill(terminal_id)
        return KillTerminalResponse()

    async def release_terminal(
        self, session_id: str, terminal_id: str, **kwargs: Any
    ) -> ReleaseTerminalResponse:
        """End a command and forget it."""
        await self.terminals.release(terminal_id)
        return ReleaseTerminalResponse()

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """No extension is known here."""
        raise RequestError.method_not_found(method)

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """No extension is known here; a notification may be ignored."""

    def on_connect(self, conn: Any) -> None:
        """Nothing has to be done."""

    def _place(self, path: str) -> Path:
        found = inside(self._folder, path)
        if found is None:
            raise _refused(f"{path} is not in the working directory {self._folder}.")
        return found

    def _take_status(self, call: str, status: str | None) -> None:
        if status in _OVER:
            self._tell_end(call, _OVER[status])

    def _tell_end(self, call: str, status: ToolStatus) -> None:
        """Told once: an agent calls what was denied failed afterwards."""
        if call in self._ended:
            return
        self._ended.add(call)
        begun = self._calls.get(call)
        self._emit(ToolCall(call, begun.title if begun is not None else "tool", status))


def _opened(place: Path, flags: int, mode: str) -> IO[bytes]:
    """A regular file: a pipe or a device could hold up the driver for good. Raises OSError.

    `place` has no links in it; one that was put there since is refused.
    """
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.fdopen(os.open(place, flags | careful), mode)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def _choices(schema: Any) -> tuple[str, ...]:
    """The answers that a form offers, over all its fields."""
    found: list[str] = []
    for field in (getattr(schema, "properties", None) or {}).values():
        found += [str(word) for word in getattr(field, "enum", None) or ()]
        found += [str(option.title) for option in getattr(field, "one_of", None) or ()]
    return tuple(found)


def _refused(why: str) -> RequestError:
    return RequestError.invalid_params({"details": why})


def _known(terminal: Terminal | None, name: str) -> Terminal:
    if terminal is None:
        raise RequestError.resource_not_found(name)
    return terminal
