"""What people who run a server look at: its log, its numbers, and what `doctor` says of it from afar."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server_process import ServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that logs each request."""
    environment = {"DORKOS_LOG_LEVEL": "debug"}
    with ServerProcess(tmp_path / "home", boundary=tmp_path, environment=environment) as server:
        yield server


def doctor(server: ServerProcess, *words: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Its exit code, and each line by its name."""
    command = [sys.executable, "-m", "dorkos", "doctor", "--json", *words]
    variables = {**{n: v for n, v in server.environment.items() if n != "DORKOS_URL"}, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["findings"]}


def _goes_red_while_the_disk_takes_nothing(server: ServerProcess) -> None:
    """Everywhere by the name of the part, and green again once there is room. It lives meanwhile."""
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    try:
        with server.client() as client:
            answer = client.get("/api/ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            broken = [check["name"] for check in answer.json()["checks"] if not check["ok"]]
            assert "database" in broken
            assert "Not ready: database: The disk" in answer.json()["error"]
            assert client.get("/api/health").status_code == 200
            page = client.get("/metrics").text
            assert 'dorkos_ready{part="database"} 0' in page
        code, lines = doctor(server, "--url", server.url)
        assert (code, lines["readiness"]["level"]) == (1, "fault")
        assert "database" in lines["readiness"]["message"]
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    with server.client() as client:
        assert client.get("/api/ready").status_code == 200


def test_a_server_can_be_watched(server: ServerProcess) -> None:
    """One request in answer and log by one id; numbers for every part; a doctor who needs no directory."""
    with server.client() as client:
        refused = client.post("/api/pulse/schedules", json={"name": "x", "prompt": "y", "cron": "never"})
        assert refused.json()["requestId"] == refused.headers["x-request-id"]
        page = client.get("/metrics")
    log = server.home / "logs" / "dorkos.log"
    entries = [json.loads(line) for line in log.read_text("ascii").splitlines()]
    [told] = [entry for entry in entries if entry.get("requestId") == refused.headers["x-request-id"]]
    assert (told["msg"], told["method"], told["path"], told["status"]) == (
        "request",
        "POST",
        "/api/pulse/schedules",
        400,
    )
    families = {family.name: family for family in text_string_to_metric_families(page.text)}
    assert {"dorkos_info", "dorkos_runs", "dorkos_deliveries", "dorkos_agents", "dorkos_events"} <= set(
        families
    )
    parts = {sample.labels["part"]: sample.value for sample in families["dorkos_ready"].samples}
    assert set(parts.values()) == {1.0}
    assert {"database", "bus", "registry"} <= set(parts)

    _goes_red_while_the_disk_takes_nothing(server)

    code, lines = doctor(server, "--url", server.url)
    assert (code, {line["level"] for line in lines.values()} <= {"ok", "warning"}) == (0, True)
    assert {"server", "readiness", "database", "fleet", "backups", "dead letters"} == set(lines)
    code, lines = doctor(server, "--url", server.url, "--token", "dork_wrong")
    assert (code, lines["readiness"]["level"]) == (1, "fault")
    assert server.stop() == 0
    code, lines = doctor(server, "--url", server.url, DORKOS_TOKEN="dork_any")
    assert (code, list(lines)) == (1, ["server"])
    # What was written is there after the end, and nothing that would let anybody in.
    assert server.home.joinpath("token").read_text("ascii").strip() not in log.read_text("ascii")
    with pytest.raises(httpx.ConnectError), server.client() as client:
        client.get("/api/health")
    assert os.access(log, os.R_OK)
