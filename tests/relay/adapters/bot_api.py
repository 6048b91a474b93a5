"""Telegram's Bot API as a test scripts it, on loopback: one bot, its updates, and what it was to show."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

TOKEN = "123456:the-token-of-the-tests"


@dataclass
class ScriptedBotApi:
    """Updates stay until a request confirms them, as with the real one.

    `answers` are what the next sends are answered with, instead of success: a JSON object, or `drop` and
    `hang` for a connection that breaks or says nothing.
    """

    url: str = ""
    updates: list[dict[str, Any]] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)
    shown: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    polls: int = 0
    token: str = TOKEN
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def write(
        self, text: str, *, chat: int = 42, kind: str = "private", author: dict[str, Any] | None = None
    ) -> int:
        """Somebody writes to the bot; the number of the update."""
        number = 100 + len(self.updates)
        said = {
            "message_id": number,
            "chat": {"id": chat, "type": kind, **({"title": "Team"} if kind != "private" else {})},
            "from": author or {"id": 7, "is_bot": False, "first_name": "Ada", "username": "ada"},
            "text": text,
        }
        self.push({"update_id": number, "message": said})
        return number

    def push(self, update: dict[str, Any]) -> None:
        """An update comes, of whatever kind."""
        self.updates.append(update)
        self.arrived.set()

    async def next_shown(self) -> dict[str, Any]:
        """The next message that the bot was told to show."""
        async with asyncio.timeout(60):
            return await self.shown.get()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.split(": ")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length")
                )
                asked = json.loads(await reader.readexactly(length))
                path = head.split(" ")[1]
                said = await self._answer(path, asked)
                if said == "drop":
                    return
                body = json.dumps(said).encode()
                status = 200 if said.get("ok") else said.get("error_code", 500)
                writer.write(f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, asked: dict[str, Any]) -> Any:
        _, bot, method = path.split("/")
        if bot != f"bot{self.token}":
            return {"ok": False, "error_code": 401, "description": "Unauthorized"}
        if method == "getMe":
            return {"ok": True, "result": {"id": 1, "is_bot": True, "username": "tests_bot"}}
        if method == "getUpdates":
            return {"ok": True, "result": await self._poll(asked.get("offset", 0))}
        self.shown.put_nowait(asked)
        said = self.answers.popleft() if self.answers else {"ok": True, "result": {"message_id": 900}}
        if said == "hang":
            await self.released.wait()
        return said

    async def _poll(self, offset: int) -> list[dict[str, Any]]:
        self.polls += 1
        while True:
            self.arrived.clear()
            found = [update for update in self.updates if update["update_id"] >= offset]
            if found or self.released.is_set():
                return found
            await self.arrived.wait()


@asynccontextmanager
async def bot_api() -> AsyncIterator[ScriptedBotApi]:
    """A Bot API that listens on a free port."""
    made = ScriptedBotApi()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.released.set()
        made.arrived.set()
        server.close()
