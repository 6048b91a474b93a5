"""A scripted endpoint of the Anthropic Messages API on loopback, for the real CLI to talk to.

Each request of the conversation takes the next reply of the script; with none left, it is told an error. What
the CLI asks besides, such as a title, comes without tools and is answered by itself. As a process of its own,
`python -m tests.model_endpoint < replies.json` prints the URL and serves until it is killed.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "claude-sonnet-4-5-20250929"
# A second call under the id of the first would be taken for the same one.
_NUMBERS = itertools.count(1)
INPUT_TOKENS = 12
OUTPUT_TOKENS = 7


@dataclass(frozen=True)
class Say:
    """Answers with a text, in these pieces."""

    pieces: tuple[str, ...]

    def __init__(self, *pieces: str) -> None:
        object.__setattr__(self, "pieces", pieces)


@dataclass(frozen=True)
class Use:
    """Asks for a call of a tool."""

    tool: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Fail:
    """Refuses with an HTTP status: 529 is an overload, 400 a bad request."""

    status: int
    kind: str = "api_error"
    message: str = "The script says so."


@dataclass(frozen=True)
class Hang:
    """Says a text, and then nothing more, with the connection open, until the endpoint ends."""

    text: str = ""


@dataclass(frozen=True)
class Hold:
    """Says the first piece, and the second once the test lets it."""

    first: str
    second: str


Reply = Say | Use | Fail | Hang | Hold


@dataclass
class ModelEndpoint:
    """The script, what was asked so far, and the signals of a test."""

    replies: list[Reply]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)
    """Set once a reply hangs, or holds."""
    release: threading.Event = field(default_factory=threading.Event)
    """Set it to let a held reply, and those that hang, go on."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What makes the CLI talk to this endpoint and to nobody else."""
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "DISABLE_AUTOUPDATER": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def next_reply(self, asked: dict[str, Any]) -> Reply:
        with self.lock:
            if not asked.get("tools"):
                return Say("A title")
            self.asked.append(asked)
            return self.replies.pop(0) if self.replies else Fail(400, message="The script is at its end.")

    def texts(self) -> list[str]:
        """Every text and tool result that the last request held, oldest first."""
        found: list[str] = []
        for message in self.asked[-1]["messages"]:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for block in blocks:
                if block["type"] == "text":
                    found.append(block["text"])
                elif block["type"] == "tool_result":
                    found.append(json.dumps(block.get("content")))
        return found


@contextmanager
def serve(*replies: Reply) -> Iterator[ModelEndpoint]:
    """An endpoint on a free port of loopback."""
    endpoint = ModelEndpoint(list(replies))

    class Handler(_Handler):
        script = endpoint

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    script: ModelEndpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # Its name in the base class.
        pass

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if not self.path.split("?")[0].endswith("/messages"):
            self._answer(200, {"input_tokens": INPUT_TOKENS})
            return
        reply = self.script.next_reply(asked)
        try:
            if isinstance(reply, Fail):
                error = {"type": reply.kind, "message": reply.message}
                self._answer(reply.status, {"type": "error", "error": error})
            elif asked.get("stream"):
                self._stream(reply)
            else:
                blocks = [_block(reply)]
                self._answer(200, _message(blocks, _stop_reason(reply)))
        except OSError:  # Whoever asked is gone.
            self.close_connection = True

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:
            self.send_header("x-should-retry", "false")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event("message_start", message=_message([], None))
        self._block_events(reply)
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        self._event("message_delta", delta=delta, usage={"output_tokens": OUTPUT_TOKENS})
        self._event("message_stop")

    def _block_events(self, reply: Reply) -> None:
        empty = {"type": "text", "text": ""}
        if isinstance(reply, Use):
            self._event("content_block_start", index=0, content_block={**_block(reply), "input": {}})
            delta = {"type": "input_json_delta", "partial_json": json.dumps(reply.input)}
            self._event("content_block_delta", index=0, delta=delta)
        else:
            self._event("content_block_start", index=0, content_block=empty)
            for piece in _pieces(reply):
                self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
                if isinstance(reply, Hold | Hang):
                    self.script.hanging.set()
                    self.script.release.wait()
        self._event("content_block_stop", index=0)

    def _event(self, kind: str, **fields: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())
        self.wfile.flush()


def _pieces(reply: Reply) -> Sequence[str]:
    match reply:
        case Say(pieces):
            return pieces
        case Hold(first, second):
            return (first, second)
        case Hang(text):
            return (text,)
        case _:
            return ()


def _block(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Use):
        return {"type": "tool_use", "id": f"toolu_{next(_NUMBERS)}", "name": reply.tool, "input": reply.input}
    return {"type": "text", "text": "".join(_pieces(reply))}


def _stop_reason(reply: Reply) -> str:
    return "tool_use" if isinstance(reply, Use) else "end_turn"


def _message(blocks: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
    }


def reply_of(said: dict[str, Any]) -> Reply:
    """A reply from JSON: {"say": [...]}, {"use": name, "input": {}}, {"fail": status} or {"hang": text}."""
    match said:
        case {"say": pieces}:
            return Say(*pieces)
        case {"use": tool, "input": given}:
            return Use(tool, given)
        case {"fail": status}:
            return Fail(status)
        case {"hang": text}:
            return Hang(text)
        case _:
            raise ValueError(said)


if __name__ == "__main__":
    with serve(*map(reply_of, json.load(sys.stdin))) as running:
        sys.stdout.write(running.url + "\n")
        sys.stdout.flush()
        threading.Event().wait()
