"""NATS JetStream: a server of its own with file storage that syncs each message before it answers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contest import AT_ONCE, spread
from benchmarks.payload import PAYLOAD

_CONFIG = """
listen: "127.0.0.1:-1"
ports_file_dir: "{folder}"
jetstream {{ store_dir: "{folder}/store", sync_interval: always }}
"""


class JetStream:
    """Publishing with ack, and a pull consumer whose acks are confirmed."""

    name = "NATS JetStream"
    promise = "the same: sync_interval always"

    async def open(self, folder: Path) -> None:
        """Start a server on a free port and make a stream."""
        import nats

        config = folder / "nats.conf"
        config.write_text(_CONFIG.format(folder=folder))
        program = Path(sys.executable).parent / "nats-server"
        self._server = subprocess.Popen(
            [shutil.which("nats-server") or str(program), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._client = await nats.connect(await self._url(folder))
        self._stream: Any = self._client.jetstream()
        await self._stream.add_stream(name="bench", subjects=["bench"])
        self._consumer = await self._stream.pull_subscribe("bench", durable="worker")

    async def _url(self, folder: Path) -> str:
        import json

        while True:
            if self._server.poll() is not None:
                raise SystemExit("nats-server ended at its start.")
            for file in folder.glob("*.ports"):
                text = file.read_text()
                if text:
                    return str(json.loads(text)["nats"][0])
            await asyncio.sleep(0.05)

    async def publish(self, count: int) -> None:
        """Publish, each with its ack."""
        await spread(count, self._one)

    async def _one(self) -> None:
        await self._stream.publish("bench", PAYLOAD.encode())

    async def carry(self, count: int) -> None:
        """Publish; fetch and acknowledge as many, each ack confirmed."""
        await asyncio.gather(self.publish(count), self._consume(count))

    async def _consume(self, count: int) -> None:
        while count > 0:
            messages = await self._consumer.fetch(min(count, AT_ONCE), timeout=10)
            await asyncio.gather(*(message.ack_sync() for message in messages))
            count -= len(messages)

    async def forget(self) -> None:
        """Empty the stream, so that a consumer finds only what is published from now on."""
        await self._stream.purge_stream("bench")

    async def close(self) -> None:
        """Stop the client and the server."""
        await self._client.close()
        self._server.terminate()
        self._server.wait(10)
