"""Every address as a stranger would try it: requests made from the OpenAPI document by schemathesis.

`FUZZ_EXAMPLES=200 FUZZ_SECONDS=900 make test ARGS='tests/e2e/test_fuzzing.py'` tries for longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dorkos.server.operations import OPERATIONS
from tests.server_process import ServerProcess

_EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "1")
_SECONDS = os.environ.get("FUZZ_SECONDS", "25")
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Streams and long polls do not end by themselves; they have tests of their own.
_ENDLESS = r"(stream|/events|/mcp|/logout)$"
_PROGRAM = str(Path(sys.executable).with_name("schemathesis"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of this test's own: what is tried on it is not only asked."""
    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        yield server


def test_nothing_that_is_sent_ends_in_a_fault_of_ours(server: ServerProcess, tmp_path: Path) -> None:
    """As the operator: no 5xx, no status and no shape that the document does not tell, no hang."""
    waiting = [word for o in OPERATIONS if o.waits for word in ("--exclude-operation-id", o.name)]
    done = subprocess.run(
        [
            *(_PROGRAM, "run", f"{server.url}/api/openapi.json"),
            *("--header", f"Authorization: Bearer {server.token}"),
            *("--checks", _CHECKS, "--phases", "coverage,fuzzing"),
            *("--max-examples", _EXAMPLES, "--max-time", _SECONDS, "--request-timeout", "20"),
            *("--generation-deterministic", "--no-shrink", "--suppress-health-check", "all"),
            *("--exclude-path-regex", _ENDLESS, "--continue-on-failure", "--no-color", "--warnings", "off"),
            *waiting,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert not [line for line in server.output if "Traceback" in line or "fault" in line]
    with server.client() as client:
        assert client.get("/api/ready").status_code == 200


def test_no_address_lets_a_token_past_its_scope(server: ServerProcess) -> None:
    """Each operation of the document with no token, with one that only reads, and with an agent's.

    What a token does not allow is refused before anything is looked at, whatever is asked for.
    """
    with server.client() as operator:
        document = operator.get("/api/openapi.json").json()
        reading = operator.post("/api/tokens", json={"name": "screen"}).json()["token"]
        folder = server.home.parent / "scout"
        folder.mkdir()
        body = {"path": str(folder), "overrides": {"name": "scout", "runtime": "claude-code"}}
        agent = operator.post("/api/mesh/agents", json=body).json()["token"]
        holds = {reading: {"observe"}, agent: {"send", "receive"}}
        refused = 0
        with httpx.Client(base_url=server.url, timeout=40, trust_env=False, verify=False) as stranger:
            for path, entries in document["paths"].items():
                for method, entry in entries.items():
                    scope = entry.get("x-scope")
                    if entry.get("security") == []:
                        continue
                    assert stranger.request(method, path).status_code == 401, (method, path)
                    for token, scopes in holds.items():
                        if scope is None or scope in scopes:
                            continue
                        headers = {"Authorization": f"Bearer {token}"}
                        answer = stranger.request(method, path, headers=headers)
                        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (
                            method,
                            path,
                        )
                        refused += 1
        assert refused > len(OPERATIONS) / 2
