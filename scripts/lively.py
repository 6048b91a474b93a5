"""A server with a day behind it: agents, schedules, runs, messages, what failed and what waits on a person.

The screenshots show it, and whoever wants to see the console with something in it can start it by hand:
`python -m scripts.lively DIRECTORY`.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from dorkos.clock import iso
from dorkos.ids import first_id_at, new_id
from tests.server_process import ServerProcess

AGENTS = (
    ("scout", "Reads the changelogs of what we depend on and tells what concerns us."),
    ("reviewer", "Looks at each branch before a person does."),
    ("librarian", "Keeps the notes in order and answers questions about them."),
    ("gardener", "Tidies flaky tests, a few each night."),
    ("herald", "Writes the morning digest."),
)
_SCHEDULES: tuple[tuple[str, str, str, str], ...] = (
    ("Morning digest", "0 7 * * *", "herald", "Write what happened since yesterday, at most ten lines."),
    ("Watch upstream", "@every 30m", "scout", "Look for new releases; say only what concerns us."),
    ("Review open branches", "15 */2 * * *", "reviewer", "Review what was pushed since the last time."),
    ("Tidy flaky tests", "30 2 * * 1-6", "gardener", "Take the three worst, mend one, explain it."),
    ("Index the notes", "@every 1h", "librarian", "Index what changed."),
    ("Weekly report", "0 16 * * 5", "herald", "Summarise the week for the team."),
    ("Rotate the logs", "5 0 * * *", "", "logrotate /etc/logrotate.d/agents"),
)
_ENDS = (("completed", None), ("failed", "exit_code"), ("timeout", "deadline"), ("completed", None))
_SAID = (
    "Three releases since noon; none of them touches what we use.",
    "Looked at two branches. One leaves a file open when parsing fails.",
    "Nothing changed since the last time.",
    "Mended test_reconnect: it waited for a fixed time, now it waits for the event.",
)
_PROGRAM = ["python3", "-c", "import sys; print(sys.stdin.read())"]


def furnish(home: Path, boundary: Path) -> dict[str, str]:
    """Put a day's life into a new data directory; returns some ids by name."""
    ids: dict[str, str] = {}
    with ServerProcess(home, boundary=boundary) as server, server.client() as api:
        agents = {name: _agent(api, boundary, name, told) for name, told in AGENTS}
        schedules = [_schedule(api, agents, entry) for entry in _SCHEDULES]
        _talk(api, agents, ids)
        ids["agent"] = agents["scout"]["id"]
        ids["approval"] = _propose(api, server, agents["reviewer"])
    _age(home / "dork.db", schedules)
    return ids | {"schedule": schedules[1]["id"]}


def _agent(api: httpx.Client, boundary: Path, name: str, told: str) -> dict[str, Any]:
    folder = boundary / name
    folder.mkdir(parents=True)
    (folder / "CLAUDE.md").write_text(f"# {name}\n\n{told}\n", encoding="utf-8")
    overrides = {"name": name, "description": told, "namespace": "workshop", "capabilities": ["reading"]}
    made: dict[str, Any] = _answer(
        api.post("/api/mesh/agents", json={"path": str(folder), "overrides": overrides})
    )
    return made


def _schedule(api: httpx.Client, agents: dict[str, Any], entry: tuple[str, str, str, str]) -> dict[str, Any]:
    name, cron, agent, prompt = entry
    target = {"agentId": agents[agent]["id"]} if agent else {"command": _PROGRAM}
    body = {"name": name, "cron": cron, "prompt": prompt, "timezone": "Europe/Berlin", "enabled": False}
    made: dict[str, Any] = _answer(api.post("/api/pulse/schedules", json={**body, **target}))
    return made


def _talk(api: httpx.Client, agents: dict[str, Any], ids: dict[str, str]) -> None:
    _answer(api.post("/api/relay/endpoints", json={"subject": "relay.human.kim", "description": "Kim"}))
    _answer(api.post("/api/relay/endpoints", json={"subject": "relay.human.sam", "description": "Sam"}))
    for text in ("Is the release of tuesday still on?", "Which tests were flaky last week?", "Thanks!"):
        body = {"subject": "relay.human.sam", "from": "relay.human.kim", "payload": text}
        ids["message"] = _answer(api.post("/api/relay/messages", json=body))["messageId"]
    note = {"kind": "note", "text": "The parser leaves a file open.", "branch": "parse-errors", "line": 214}
    sent = {"subject": "relay.human.kim", "payload": note, "replyTo": "relay.human.operator"}
    ids["message"] = _answer(api.post("/api/relay/messages", json=sent))["messageId"]
    for who in ("relay.human.lee", "relay.agent.workshop.nobody"):
        _answer(api.post("/api/relay/messages", json={"subject": who, "payload": "Are you there?"}))
    claim = _answer(api.post("/api/relay/endpoints/relay.human.sam/claim", json={"limit": 1}))["deliveries"][
        0
    ]
    ack = {"messageId": claim["messageId"], "leaseToken": claim["leaseToken"]}
    _answer(api.post("/api/relay/endpoints/relay.human.sam/ack", json=ack))
    rule = {
        "from": "relay.human.*",
        "to": "relay.agent.workshop.*",
        "action": "allow",
        "description": "people",
    }
    _answer(api.post("/api/relay/rules", json=rule))
    drop = {"id": "drop", "type": "maildir"}
    _answer(api.post("/api/relay/adapters", json=drop))
    inbound = {"subject": "relay.human.kim", "secret": "made-up-for-a-picture"}
    ci = {"id": "ci", "type": "webhook", "config": {"inbound": inbound}}
    _answer(api.post("/api/relay/adapters", json=ci))
    _answer(api.post("/api/mesh/deny", json={"path": str(agents["scout"]["projectPath"]) + "-old"}))


def _propose(api: httpx.Client, server: ServerProcess, agent: dict[str, Any]) -> str:
    token = _answer(api.post(f"/api/mesh/agents/{agent['id']}/token", json={}))["token"]
    with server.client(token) as reviewer:
        body = {
            "name": "Review before the merge window",
            "cron": "40 15 * * 1-5",
            "prompt": "Look at every branch that is to be merged today.\nSay which should wait, and why.",
            "agentId": agent["id"],
            "timezone": "Europe/Berlin",
            "reason": "Branches come in after the last review of the day and are merged unseen.",
        }
        _answer(reviewer.post("/api/pulse/schedules", json=body))
    return str(_answer(api.get("/api/approvals", params={"status": "pending"}))[0]["id"])


def _age(database: Path, schedules: list[dict[str, Any]]) -> None:
    """A day of slots and runs, as if the server had been there."""
    drawn = random.Random(7)  # noqa: S311  # A picture, not a secret.
    now = datetime.now(UTC).replace(microsecond=0)
    steps = (1440, 30, 120, 1440, 60, 10080, 1440)
    with closing(sqlite3.connect(database)) as connection, connection:
        _grow(connection, now, drawn)
        for schedule, step in zip(schedules, steps, strict=True):
            for due in _instants(now, step):
                _decide(connection, schedule, due, drawn)
            connection.execute(
                "UPDATE pulse_schedules SET enabled = 1, decided_until = ?, next_due_at = ? WHERE id = ?",
                (iso(now), iso(now + timedelta(minutes=min(step, 300))), schedule["id"]),
            )


def _grow(connection: sqlite3.Connection, now: datetime, drawn: random.Random) -> None:
    """Sizes of four weeks, and messages of a day that somebody has taken: more of them by day."""
    sizes = [(now - timedelta(hours=hours), 420_000 + (670 - hours) * 760) for hours in range(670, 0, -1)]
    kept = json.dumps([[iso(at), size + drawn.randrange(9000)] for at, size in sizes])
    connection.execute("INSERT INTO system_state (key, value) VALUES ('growth', ?)", (kept,))
    connection.execute("DELETE FROM system_state WHERE key = 'relay:metrics'")  # To be counted anew.
    mailbox = connection.execute(
        "SELECT id FROM relay_endpoints WHERE subject = 'relay.human.kim'"
    ).fetchone()[0]
    senders = [
        row[0] for row in connection.execute("SELECT subject FROM relay_endpoints WHERE agent_id IS NOT NULL")
    ]
    for minutes in range(1430, 12, -1):
        at = now - timedelta(minutes=minutes)
        if drawn.random() < (0.5 if 7 <= at.hour < 19 else 0.1):
            _said(connection, mailbox, drawn.choice(senders), at, drawn.choice(_SAID))


def _said(connection: sqlite3.Connection, mailbox: str, sender: str, at: datetime, text: str) -> None:
    """A message of an hour ago, whose id tells its time as any does."""
    identity = first_id_at(at)[:10] + new_id()[10:]
    connection.execute(
        "INSERT INTO relay_messages (id, subject, sender, payload, bytes, chain_id, hop_count, max_hops,"
        " created_at) VALUES (?, 'relay.human.kim', ?, ?, ?, ?, 1, 5, ?)",
        (identity, sender, json.dumps(text), len(text), identity, iso(at)),
    )
    position = connection.execute(
        "SELECT min(position) - 1 FROM relay_index WHERE endpoint_id = ?", (mailbox,)
    )
    connection.execute(
        "INSERT INTO relay_index (id, message_id, endpoint_id, position, status, available_at, created_at,"
        " delivered_at) VALUES (?, ?, ?, ?, 'delivered', ?, ?, ?)",
        (identity, identity, mailbox, position.fetchone()[0], iso(at), iso(at), iso(at)),
    )


def _instants(now: datetime, step: int) -> Iterator[datetime]:
    due = now - timedelta(hours=23, minutes=40) + timedelta(minutes=step * 37 % 1380 if step > 1000 else 0)
    while due < now - timedelta(minutes=2):
        yield due
        due += timedelta(minutes=step)


def _decide(
    connection: sqlite3.Connection, schedule: dict[str, Any], due: datetime, drawn: random.Random
) -> None:
    slot, chance = new_id(), drawn.random()
    verdict, reason = ("skipped", "overlap") if chance > 0.94 else ("run", "due")
    connection.execute(
        "INSERT INTO pulse_slots (id, schedule_id, due_at, through_at, count, verdict, reason, revision, "
        "decided_at) VALUES (?, ?, ?, ?, 1, ?, ?, 1, ?)",
        (slot, schedule["id"], iso(due), iso(due), verdict, reason, iso(due)),
    )
    if verdict != "run":
        return
    state, why = _ENDS[0] if chance < 0.82 else drawn.choice(_ENDS)
    took = int(drawn.expovariate(1 / 90_000)) + 4000
    began = due + timedelta(seconds=1)
    said = drawn.choice(_SAID)
    run = new_id()
    connection.execute(
        "INSERT INTO pulse_runs (id, schedule_id, slot_id, agent_id, status, reason, prompt, chain_id, "
        "created_at, started_at, finished_at, duration_ms, output, error, exit_code, cost_microusd, model) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'a-model')",
        (
            *(run, schedule["id"], slot, schedule["agentId"], state, why, schedule["prompt"], run, iso(due)),
            *(iso(began), iso(began + timedelta(milliseconds=took)), took, said),
            "The program ended with exit code 1: no space left on device." if state == "failed" else None,
            *(1 if state == "failed" else 0, int(took * 0.35)),
        ),
    )
    connection.execute(
        "INSERT INTO pulse_run_output (run_id, seq, stream, at, text) VALUES (?, 1, 'stdout', ?, ?)",
        (run, iso(began), f"Reading the notes of yesterday…\n{said}\n"),
    )


def _answer(response: httpx.Response) -> Any:
    body = response.json()
    if response.is_error:
        raise SystemExit(f"{response.request.url}: {body}")
    return body


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    (place / "projects").mkdir(parents=True)
    furnish(place / "home", place / "projects")
    print(f"dorkos --home '{place / 'home'}' up")
