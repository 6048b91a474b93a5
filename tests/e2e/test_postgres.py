"""The whole program on a real PostgreSQL: the same story as on SQLite."""

from __future__ import annotations

import sys
from pathlib import Path

from dorkos.testing import empty_postgres
from tests.server_process import ServerProcess

MAILBOX = "relay.human.ada"


def test_a_run_and_a_message_go_their_way_and_survive_a_kill(tmp_path: Path) -> None:
    """Migrated on the first start; a run completes, a message is acknowledged, and both outlive kill -9."""
    with (
        empty_postgres() as url,
        ServerProcess(
            tmp_path / "home", boundary=tmp_path, environment={"DORKOS_DATABASE_URL": url}
        ) as server,
    ):
        with server.client() as client:
            body = {
                "name": "hello",
                "cron": "@manual",
                "prompt": "hello",
                "cwd": str(tmp_path),
                "command": [sys.executable, "-c", "print(input())"],
            }
            schedule = client.post("/api/pulse/schedules", json=body).raise_for_status().json()
            run_id = client.post(f"/api/pulse/schedules/{schedule['id']}/trigger").json()["runId"]
            with client.stream("GET", f"/api/pulse/runs/{run_id}/output/stream") as stream:
                printed = list(stream.iter_lines())  # To its end, which is that of the run.
            assert any("hello" in line for line in printed)

            client.post("/api/relay/endpoints", json={"subject": MAILBOX}).raise_for_status()
            sent = client.post("/api/relay/messages", json={"subject": MAILBOX, "payload": "ping"}).json()
            assert sent["deliveredTo"] == 1
            claim = client.post(f"/api/relay/endpoints/{MAILBOX}/claim", json={}).json()["deliveries"][0]
            lease = {"messageId": claim["messageId"], "leaseToken": claim["leaseToken"]}
            client.post(f"/api/relay/endpoints/{MAILBOX}/ack", json=lease).raise_for_status()

        server.kill()
        server.start()
        with server.client() as client:
            assert client.get(f"/api/pulse/runs/{run_id}").json()["state"] == "completed"
            message = client.get(f"/api/relay/messages/{sent['messageId']}").json()
            assert message["status"] == "delivered"
            assert client.get("/api/status").json()["database"]["dialect"] == "postgresql"
    assert not (tmp_path / "home" / "dork.db").exists()
