"""Drives Claude Code by the Claude Agent SDK, in the driver's process.

What a run may do is decided here and by the person's own settings, never by files of the project: those could
grant themselves what nobody approved, or run programs as hooks. The project's CLAUDE.md is read all the same.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    CLINotFoundError,
    Message,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultError,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolPermissionContext,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    __version__,
    query,
)

from dorkos.runtimes.availability import install_hint
from dorkos.runtimes.driver import DriverRequest, Emit, UnavailableError
from dorkos.runtimes.events import (
    Log,
    Question,
    Result,
    ResultStatus,
    Session,
    Text,
    ToolCall,
    ToolStatus,
    Usage,
)
from dorkos.vocabulary import PermissionMode

_SERVER = "dorkos"
_MEMORY_BYTES = 64 * 1024
_NOT_COVERED = (
    "The rights of this run do not cover this, and nobody is there to be asked. Go on without it, or say what"
    " you could not do."
)
_LOST = "No conversation found"
_NOT_ANSWERED = "Nobody can answer now. The run ends here and is resumed with the answer."
_KINDS = {401: "authentication", 403: "permission", 429: "rate_limited", 529: "overloaded"}
_SUBTYPES = {"error_max_turns": "max_turns", "error_max_budget_usd": "max_cost"}
_WORDS = {
    "max_turns": "The agent used up its turns (`runtimes.maxTurns`).",
    "max_cost": "The agent used up what it may cost (`runtimes.maxCostUsd`).",
}


async def drive(request: DriverRequest, emit: Emit) -> Result:
    """Take one turn with Claude Code. See `Driver`."""
    turn = _Turn(emit, PermissionMode(request.permission_mode))
    try:
        async for message in query(prompt=_prompt(request.prompt), options=_options(request, turn)):
            turn.take(message)
    except CLINotFoundError as fault:
        raise UnavailableError(str(fault), hint=install_hint("claude")) from fault
    except ResultError as fault:
        # It repeats the result that was taken in before, as an exception.
        if turn.result is None:
            lost = request.resume is not None and _LOST in str(fault)
            return Result(ResultStatus.FAILED, kind="session_lost" if lost else "no_result", error=str(fault))
    return turn.concluded()


async def _prompt(text: str) -> AsyncIterator[dict[str, Any]]:
    """One message. As a stream, because only then the CLI asks back before it uses a tool."""
    yield {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "session_id": "",
    }


def _options(request: DriverRequest, turn: _Turn) -> ClaudeAgentOptions:
    # Bypassing is done by answering, not by the CLI's own mode, which refuses to work for root and skips
    # what the person's settings deny.
    bypass = turn.mode is PermissionMode.BYPASS_PERMISSIONS
    cost = request.max_cost_microusd
    return ClaudeAgentOptions(
        cwd=request.cwd,
        permission_mode="acceptEdits" if bypass else turn.mode.value,
        can_use_tool=turn.may_use,
        system_prompt={"type": "preset", "preset": "claude_code", "append": _context(request)},
        setting_sources=["user"],
        strict_mcp_config=True,
        mcp_servers=_servers(request.mcp_url),
        resume=request.resume,
        model=request.model,
        max_turns=request.max_turns,
        max_budget_usd=None if cost is None else cost / 1_000_000,
        include_partial_messages=True,
        stderr=lambda line: turn.emit(Log(line.rstrip(), "stderr")),
    )


def _servers(url: str | None) -> dict[str, Any]:
    if url is None or not os.environ.get("DORKOS_TOKEN"):
        return {}
    # The CLI fills in the token: written out, everybody on the machine could read it among the arguments.
    headers = {"Authorization": "Bearer ${DORKOS_TOKEN}"}
    return {_SERVER: {"type": "http", "url": url, "headers": headers}}


def _context(request: DriverRequest) -> str:
    return "\n\n".join(part for part in (request.system_context, _memory(Path(request.cwd))) if part)


def _memory(folder: Path) -> str | None:
    """The project's CLAUDE.md, which Claude Code itself reads only together with the project's settings."""
    try:
        with (folder / "CLAUDE.md").open("rb") as file:
            return "From the project's CLAUDE.md:\n" + file.read(_MEMORY_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


@dataclass
class _Turn:
    """What happened so far, told as it happens."""

    emit: Emit
    mode: PermissionMode
    result: ResultMessage | None = None
    question: Question | None = None
    model: str | None = None
    streamed: bool = False
    names: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    async def may_use(
        self, tool: str, given: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """Answer for the person who is not there, by the rights that the run was given."""
        if tool == "AskUserQuestion":
            self.question = _question(given)
            self.emit(self.question)
            return PermissionResultDeny(message=_NOT_ANSWERED, interrupt=True)
        if self.mode is PermissionMode.BYPASS_PERMISSIONS:
            return PermissionResultAllow()
        if tool.startswith(f"mcp__{_SERVER}__") and self.mode is not PermissionMode.PLAN:
            return PermissionResultAllow()  # Its token decides what it may do there.
        if tool == "ExitPlanMode" and isinstance(given.get("plan"), str):
            self.emit(Text(given["plan"] + "\n"))
        if context.tool_use_id is not None:
            self.denied.add(context.tool_use_id)
        return PermissionResultDeny(message=_NOT_COVERED)

    def take(self, message: Message) -> None:
        """Tell what a message says."""
        match message:
            case SystemMessage(subtype="init", data=data):
                self.emit(Session(data["session_id"]))
                version = data.get("claude_code_version")
                self.emit(Log(f"claude-agent-sdk {__version__}, Claude Code {version}"))
            case StreamEvent(parent_tool_use_id=None, event=event):
                self._take_piece(event)
            case AssistantMessage(parent_tool_use_id=None):
                self._take_answer(message)
            case UserMessage(content=list() as blocks, parent_tool_use_id=None):
                for block in blocks:
                    if isinstance(block, ToolResultBlock):
                        self._take_tool_result(block)
            case ResultMessage():
                self.result = message
                self._take_usage(message)
            case _:
                pass

    def _take_piece(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self.streamed = False
        elif kind == "content_block_delta" and event["delta"].get("type") == "text_delta":
            self.streamed = True
            self.emit(Text(event["delta"]["text"]))
        elif kind == "message_stop" and self.streamed:
            self.emit(Text("\n"))

    def _take_answer(self, message: AssistantMessage) -> None:
        if message.error is not None:
            return  # Words of the CLI about a failure, which the result holds as well.
        self.model = message.model
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                self.names[block.id] = block.name
                self.emit(ToolCall(block.id, block.name, ToolStatus.STARTED, block.input))
            elif isinstance(block, TextBlock) and not self.streamed:
                self.emit(Text(block.text + "\n"))

    def _take_tool_result(self, block: ToolResultBlock) -> None:
        status = ToolStatus.FAILED if block.is_error else ToolStatus.COMPLETED
        if block.tool_use_id in self.denied:
            status = ToolStatus.DENIED
        self.emit(ToolCall(block.tool_use_id, self.names.get(block.tool_use_id, "tool"), status))

    def _take_usage(self, message: ResultMessage) -> None:
        usage = message.usage or {}
        read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        cost = message.total_cost_usd
        self.emit(
            Usage(
                self.model,
                sum(usage.get(name) or 0 for name in read),
                usage.get("output_tokens") or 0,
                None if cost is None else round(cost * 1_000_000),
            )
        )

    def concluded(self) -> Result:
        """How the turn ended."""
        if self.question is not None:
            return Result(ResultStatus.BLOCKED)
        if self.result is None:
            return Result(ResultStatus.FAILED, kind="no_result", error="Claude Code ended without a result.")
        if not self.result.is_error and self.result.subtype == "success":
            return Result(ResultStatus.COMPLETED, self.result.result)
        return _failed(self.result)


def _failed(message: ResultMessage) -> Result:
    kind = _SUBTYPES.get(message.subtype) or _KINDS.get(message.api_error_status or 0)
    if kind is None:
        # A model that cannot be reached has no status, and is told as a success that is an error.
        unanswered = message.api_error_status is not None or message.subtype == "success"
        kind = "api_error" if unanswered else message.subtype
    said = message.result or "; ".join(message.errors or ()) or "Claude Code failed."
    return Result(ResultStatus.FAILED, kind=kind, error=_WORDS.get(kind, said))


def _question(given: dict[str, Any]) -> Question:
    """The questions of one call as one: a person answers them in one go."""
    asked = [each for each in given.get("questions") or () if isinstance(each, dict)]
    words = "\n".join(str(each.get("question", "")) for each in asked) or "The agent asked something."
    options = [
        str(option.get("label", ""))
        for each in asked
        for option in each.get("options") or ()
        if isinstance(option, dict)
    ]
    return Question(words, tuple(options))
