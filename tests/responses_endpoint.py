"""A scripted endpoint of the OpenAI Responses API on loopback, for the real program of Codex to talk to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.model_endpoint import Fail, Hang, Reply, Say, Use

INPUT_TOKENS = 12
OUTPUT_TOKENS = 7


@dataclass
class ResponsesEndpoint:
    """The script, and what was asked so far."""

    replies: list[Reply]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def config(self) -> str:
        """The config.toml that makes Codex talk to this endpoint and to nobody else."""
        return (
            'model = "gpt-scripted"\nmodel_provider = "scripted"\n'
            "[model_providers.scripted]\n"
            f'name = "scripted"\nbase_url = "{self.url}/v1"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )


@contextmanager
def serve(*replies: Reply) -> Iterator[ResponsesEndpoint]:
    """An endpoint on a free port of loopback."""
    endpoint = ResponsesEndpoint(list(replies))

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
    script: ResponsesEndpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # Its name in the base class.
        pass

    def do_GET(self) -> None:
        self._answer(404, {"error": {"message": "There is nothing here."}})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.script.asked.append(asked)
        reply = self.script.replies.pop(0) if self.script.replies else Fail(400)
        try:
            if isinstance(reply, Fail):
                self._answer(reply.status, {"error": {"message": reply.message, "type": reply.kind}})
            else:
                self._stream(reply)
        except OSError:  # Whoever asked is gone.
            self.close_connection = True

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event("response.created", response={"id": "resp_1"})
        item = _item(reply)
        if isinstance(reply, Say | Hang):
            self._event("response.output_item.added", output_index=0, item={**item, "content": []})
            for piece in reply.pieces if isinstance(reply, Say) else (reply.text,):
                self._event(
                    "response.output_text.delta",
                    item_id="msg_1",
                    output_index=0,
                    content_index=0,
                    delta=piece,
                )
            if isinstance(reply, Hang):
                self.script.release.wait()
        self._event("response.output_item.done", output_index=0, item=item)
        usage = {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": None,
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": None,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }
        self._event("response.completed", response={"id": "resp_1", "usage": usage})

    def _event(self, kind: str, **fields: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())
        self.wfile.flush()


def _item(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Use):
        arguments = json.dumps(reply.input)
        return {"type": "function_call", "call_id": "call_1", "name": reply.tool, "arguments": arguments}
    text = "".join(reply.pieces) if isinstance(reply, Say) else ""
    return {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": text}],
    }
