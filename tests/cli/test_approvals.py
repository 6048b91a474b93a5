"""`dorkos approvals` against a real server, with proposals of a registered agent."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dorkos
from tests.server_process import ServerProcess

WHY = "The logs are long."


@pytest.fixture
def propose(dorkos: Dorkos, projects: Path, server: ServerProcess) -> Any:
    """Ask for a schedule as an agent does: with the token of its registration."""
    folder = projects / "asker"
    (folder / ".dork").mkdir(parents=True, exist_ok=True)
    manifest = {"name": "asker", "runtime": "command", "entrypoint": ["cat"]}
    (folder / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")
    registered = dorkos("mesh", "register", str(folder), "--json").json
    token = dorkos("mesh", "token", registered["id"], "--json").json["token"]

    def ask(name: str) -> dict[str, Any]:
        body = {"name": name, "prompt": "Shorten.", "cron": "0 9 * * *", "command": ["true"], "reason": WHY}
        request = urllib.request.Request(
            f"{server.url}/api/pulse/schedules",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            made: dict[str, Any] = json.loads(answer.read())
        return made

    yield ask
    dorkos("mesh", "unregister", registered["id"])


def test_a_proposal_is_read_tried_and_approved(dorkos: Dorkos, propose: Any) -> None:
    """From the list to the grant, by what each command prints; the second answer is told."""
    made = propose("shorten")
    [asked] = [one for one in dorkos("approvals", "list", "--json").json if one["scheduleId"] == made["id"]]
    assert WHY in dorkos("approvals", "list").out

    shown = dorkos("approvals", "show", asked["id"]).out
    assert (WHY in shown, "Shorten." in shown, asked["contentHash"] in shown) == (True, True, True)

    dorkos("pulse", "test", made["id"], "--follow")
    short = asked["contentHash"][:12]
    assert "Approved shorten." in dorkos("approvals", "approve", asked["id"], short).out
    assert dorkos("--json", "approvals", "show", asked["id"]).json["status"] == "approved"

    again = dorkos("approvals", "approve", asked["id"], short)
    assert "approval_decided" in again.err


def test_a_rejected_one_is_paused(dorkos: Dorkos, propose: Any) -> None:
    """With the word that goes with it; another hash than the one shown approves nothing."""
    made = propose("shorten more")
    [asked] = [one for one in dorkos("approvals", "list", "--json").json if one["scheduleId"] == made["id"]]
    assert "approval_superseded" in dorkos("approvals", "approve", asked["id"], "0" * 64).err
    assert "usage" in dorkos("approvals", "approve", asked["id"], "0").err
    assert "paused" in dorkos("approvals", "reject", asked["id"], "--answer", "Once is enough").out
    [schedule] = [one for one in dorkos("pulse", "list", "--json").json if one["id"] == made["id"]]
    assert (schedule["state"], schedule["statusReason"]) == ("paused", "Rejected: Once is enough")
