"""A server that is killed while an adapter sends: a webhook gets the message again, a person does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.relay.adapters.bot_api import TOKEN, bot_api
from tests.relay.adapters.target import target
from tests.server_process import ServerProcess

SECRET = "a-secret-of-the-tests"


async def ask(server: ServerProcess, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the server as its operator, while the other side goes on answering."""

    def call() -> Any:
        with server.client() as client:
            answer = client.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json()

    return await asyncio.to_thread(call)


async def until(server: ServerProcess, path: str, look: Callable[[Any], bool]) -> None:
    """Look again after each event, until there is something to see."""

    def follow() -> None:
        with server.client() as client, client.stream("GET", "/api/events") as events:
            lines = events.iter_lines()
            for line in lines:
                # The greeting counts as well: it comes before anything that could be missed.
                if line.startswith("data:") and look(client.get(path).json()):
                    return

    async with asyncio.timeout(60):
        await asyncio.to_thread(follow)


async def test_a_webhook_gets_again_what_was_being_sent(tmp_path: Path) -> None:
    """By the same id, as soon as a server is there again; the acknowledged one does not come twice."""
    server = ServerProcess(tmp_path / "hömé", boundary=tmp_path)
    async with target() as there:
        await asyncio.to_thread(server.start)
        try:
            outbound = {"url": there.url, "secret": SECRET, "allowPrivate": True, "timeoutSeconds": 60}
            body = {"id": "hook", "type": "webhook", "config": {"outbound": outbound}}
            await ask(server, "POST", "/api/relay/adapters", body)
            there.answers.extend(["200", "hang"])
            for text in ("first", "second"):
                message = {"subject": "relay.webhook.hook", "payload": text}
                await ask(server, "POST", "/api/relay/messages", message)
            first, second = await there.next(), await there.next()
            assert (json.loads(first.body), json.loads(second.body)) == ("first", "second")
            await asyncio.to_thread(server.kill)

            await asyncio.to_thread(server.start)
            again = await there.next()
            assert again.headers["idempotency-key"] == second.headers["idempotency-key"]
            path = f"/api/relay/messages/{again.headers['x-dorkos-message']}"
            await until(server, path, lambda found: bool(found["status"] == "delivered"))
            assert there.count == 3
        finally:
            await asyncio.to_thread(server.stop)


async def test_a_person_does_not_get_again_what_may_have_been_shown(tmp_path: Path) -> None:
    """It is a dead letter that says so, and the next message is shown."""
    server = ServerProcess(tmp_path / "home", boundary=tmp_path)
    async with bot_api() as there:
        await asyncio.to_thread(server.start)
        try:
            settings = {"token": TOKEN, "apiUrl": there.url, "chats": [42]}
            body = {"id": "bot", "type": "telegram", "config": settings}
            await ask(server, "POST", "/api/relay/adapters", body)
            there.answers.append("hang")
            message = {"subject": "relay.telegram.bot.42", "payload": "once"}
            sent = await ask(server, "POST", "/api/relay/messages", message)
            assert (await there.next_shown())["text"] == "once"
            await asyncio.to_thread(server.kill)

            await asyncio.to_thread(server.start)
            path = f"/api/relay/messages/{sent['messageId']}"
            await until(server, path, lambda found: bool(found["status"] == "failed"))
            (letter,) = await ask(server, "GET", "/api/relay/dead-letters")
            assert "may or may not have been shown" in letter["detail"]
            await ask(server, "POST", "/api/relay/messages", {**message, "payload": "next"})
            assert (await there.next_shown())["text"] == "next"
        finally:
            await asyncio.to_thread(server.stop)
