"""A real agent of the Agent Client Protocol, built with its SDK, that does what the prompt's JSON says.

The prompt is an object with one key, the name of a `do_` method, or a list of those; any other prompt is said
back. Sessions outlive the process, in a folder of HOME.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from acp import RequestError, run_agent, start_tool_call, update_agent_message_text, update_tool_call
from acp.schema import (
    AgentCapabilities,
    ElicitationFormSessionMode,
    ElicitationSchema,
    ElicitationStringPropertySchema,
    Implementation,
    InitializeResponse,
    LoadSessionResponse,
    McpCapabilities,
    NewSessionResponse,
    PermissionOption,
    PromptResponse,
    ToolCallUpdate,
    Usage,
)


class ScriptedAgent:
    """One process, one client."""

    def __init__(self) -> None:
        self.conn: Any = None
        self.servers: list[Any] = []
        self.cancelled = asyncio.Event()
        self.folder = Path(os.environ["HOME"]) / "acp-sessions"

    def on_connect(self, conn: Any) -> None:
        self.conn = conn

    async def initialize(self, protocol_version: int, **_: Any) -> InitializeResponse:
        return InitializeResponse(
            protocol_version=protocol_version,
            agent_info=Implementation(name="scripted-acp", version="1"),
            agent_capabilities=AgentCapabilities(
                load_session=True, mcp_capabilities=McpCapabilities(http="--no-http" not in sys.argv)
            ),
        )

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> NewSessionResponse:
        self.servers = mcp_servers or []
        session = str(uuid4())
        self._store(session, [])
        return NewSessionResponse(session_id=session)

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: Any = None, **_: Any
    ) -> LoadSessionResponse:
        self.servers = mcp_servers or []
        if not (self.folder / session_id).exists():
            raise RequestError.resource_not_found(session_id)
        for prompt in self._prompts(session_id):
            await self._say(session_id, f"(before: {prompt})")
        return LoadSessionResponse()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        text = prompt[-1].text
        self._store(session_id, [*self._prompts(session_id), text])
        try:
            script = json.loads(text)
        except ValueError:
            script = {"say": [text]}
        several = isinstance(script, list)
        reason: Any = None
        for step in script if several else [script]:
            [(verb, given)] = step.items()
            reason = await getattr(self, f"do_{verb}")(session_id, given)
            if several:
                await self._say(session_id, "\n")
        usage = Usage(total_tokens=19, input_tokens=12, output_tokens=7)
        return PromptResponse(stop_reason=reason or "end_turn", usage=usage)

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.cancelled.set()

    async def do_say(self, session: str, pieces: list[str]) -> None:
        for piece in pieces:
            await self._say(session, piece)

    async def do_work(self, session: str, path: str) -> None:
        call = start_tool_call("call-1", "Write a file", kind="edit", raw_input={"path": path})
        await self.conn.session_update(session, call)
        answer = await self.conn.request_permission(
            session, ToolCallUpdate(tool_call_id="call-1"), _options()
        )
        if answer.outcome.outcome == "selected" and answer.outcome.option_id == "yes":
            await self.conn.write_text_file(session, path, "made")
            await self._tell(session, "completed")
        else:
            await self._tell(session, "failed")
        await self._say(session, "Done.")

    async def do_write(self, session: str, path: str) -> None:
        """Without asking first."""
        try:
            await self.conn.write_text_file(session, path, "made")
            await self._say(session, "written")
        except RequestError as fault:
            await self._say(session, f"refused: {fault.data}")

    async def do_read(self, session: str, path: str) -> None:
        try:
            await self._say(session, (await self.conn.read_text_file(session, path)).content)
        except RequestError as fault:
            await self._say(session, f"refused: {fault.data}")

    async def do_run(self, session: str, argv: list[str]) -> None:
        try:
            made = await self.conn.create_terminal(session, argv[0], argv[1:])
        except RequestError as fault:
            await self._say(session, f"refused: {fault.data}")
            return
        ended = await self.conn.wait_for_terminal_exit(session, made.terminal_id)
        printed = await self.conn.terminal_output(session, made.terminal_id)
        await self.conn.release_terminal(session, made.terminal_id)
        await self._say(session, f"{ended.exit_code}: {printed.output}")

    async def do_reply(self, session: str, text: str) -> None:
        """Answer the message that started the run, by the tool of our server."""
        # Costly to import, and only this needs them.
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        [server] = self.servers
        headers = {header.name: header.value for header in server.headers}
        async with httpx2.AsyncClient(headers=headers, timeout=40, trust_env=False, verify=False) as http:
            transport = streamable_http_client(server.url, http_client=http)
            async with Client(transport) as client:
                sent = {"subject": os.environ["DORKOS_REPLY_TO"], "payload": text}
                answer = await client.call_tool("relay_send", sent)
        await self._say(session, json.dumps(answer.structured_content))

    async def do_fail(self, session: str, words: str) -> None:
        raise RequestError.internal_error({"details": words})

    async def do_empty(self, session: str, _: object) -> None:
        pass

    async def do_ask(self, session: str, asked: list[str]) -> None:
        question, *options = asked
        field = ElicitationStringPropertySchema(type="string", enum=options)
        mode = ElicitationFormSessionMode(
            session_id=session, requested_schema=ElicitationSchema(properties={"answer": field})
        )
        await self.conn.create_elicitation(question, mode)
        await self._say(session, "Nobody answered.")

    async def do_hang(self, session: str, deaf: bool) -> str:
        if deaf:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        await self._say(session, "ready")
        if deaf:
            await asyncio.Event().wait()
        await self.cancelled.wait()
        return "cancelled"

    async def do_leave(self, session: str, argv: list[str]) -> None:
        process = await asyncio.create_subprocess_exec(*argv, start_new_session=True)
        await process.wait()

    async def do_die(self, session: str, code: int) -> None:
        await self._say(session, "dying")
        os._exit(code)

    async def do_servers(self, session: str, _: object) -> None:
        told = [[server.name, getattr(server, "url", None) or server.command] for server in self.servers]
        await self._say(session, json.dumps(told))

    async def _say(self, session: str, text: str) -> None:
        await self.conn.session_update(session, update_agent_message_text(text))

    async def _tell(self, session: str, status: Any) -> None:
        await self.conn.session_update(session, update_tool_call("call-1", status=status))

    def _prompts(self, session: str) -> list[str]:
        found: list[str] = json.loads((self.folder / session).read_text())
        return found

    def _store(self, session: str, prompts: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / session).write_text(json.dumps(prompts))


def _options() -> list[PermissionOption]:
    return [
        PermissionOption(option_id="always", name="Always", kind="allow_always"),
        PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
        PermissionOption(option_id="no", name="No", kind="reject_once"),
    ]


if __name__ == "__main__":
    asyncio.run(run_agent(ScriptedAgent(), use_unstable_protocol=True))  # type: ignore[arg-type]  # It has what it offers.
