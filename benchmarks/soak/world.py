"""The server that is soaked: its settings, its schedules, its agents and its mailboxes."""

from __future__ import annotations

from pathlib import Path

import httpx

from benchmarks.soak import server as short_days
from benchmarks.soak.load import ASKED, FOLLOWERS, MAILBOXES
from benchmarks.soak.plan import Plan
from tests.server_process import ServerProcess

# One in so many schedules starts a program.
_PROGRAMS = 5
_AGENTS, _FOLDERS_EACH = 50, 10
_REGISTERED = 10


class World:
    """A home, a folder tree with agents, and a server on SQLite."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Nothing runs yet."""
        self.home, self.tree, self.told = folder / "home", folder / "tree", folder / "told.jsonl"
        self.told.touch()
        self._due_s, self._schedules = plan.due_s, plan.schedules
        days = ("RELAY_RETENTION", "DEAD_LETTER_RETENTION", "TRACE_RETENTION", "RETENTION", "EVENT", "AUDIT")
        self.server = ServerProcess(
            self.home,
            boundary=folder,
            environment={
                **{f"DORKOS_{name}_DAYS": "1" for name in days},
                "DORKOS_RETENTION_COUNT": str(max(round(plan.day_s / plan.due_s), 2)),
                "DORKOS_MAX_MAILBOX_SIZE": "100000",
                "DORKOS_RATE_LIMIT": str(2**31 - 1),
                "DORKOS_PAIR_LIMIT": str(2**31 - 1),
                "DORKOS_MAX_CONCURRENT_RUNS": "8",
                "DORKOS_MAX_STREAMS": str(2 * FOLLOWERS),
                "DORKOS_RECONCILE_SECONDS": "60",
                "DORKOS_LOG_LEVEL": "warn",
                short_days.DAY: str(plan.day_s),
                short_days.RATE: str(plan.rate - plan.over_http),
                short_days.TOLD: str(self.told),
            },
            program=("-m", short_days.__name__),
        )

    @property
    def database(self) -> Path:
        """The file."""
        return self.home / "dork.db"

    def furnish(self) -> None:
        """Grow the tree; then, as the server runs, open mailboxes, register agents and make schedules."""
        for number in range(_AGENTS):
            agent = self.tree / f"group{number % 5}" / f"agent{number}"
            for inner in range(_FOLDERS_EACH):
                (agent / f"source{inner}").mkdir(parents=True)
            (agent / "CLAUDE.md").write_text("# Agent\n\nLooks after one thing.\n", encoding="utf-8")
        with self.server.client() as client:
            for subject in (*MAILBOXES, ASKED):
                _made(client, "/api/relay/endpoints", {"subject": subject})
            for number in range(_REGISTERED):
                path = self.tree / f"group{number % 5}" / f"agent{number}"
                _made(client, "/api/mesh/agents", {"path": str(path)})
            for number in range(self._schedules):
                _made(client, "/api/pulse/schedules", self._schedule(number))

    def _schedule(self, number: int) -> dict[str, object]:
        name = f"every {self._due_s} s, number {number}"
        common: dict[str, object] = {
            "name": name,
            "cron": f"*/{self._due_s} * * * * *",
            "prompt": "Say that all is well.",
        }
        if number % _PROGRAMS == 0:
            return common | {"command": ["echo", "all is well"], "cwd": str(self.tree)}
        return common | {"runtime": "scripted", "cwd": str(self.tree)}


def _made(client: httpx.Client, path: str, body: dict[str, object]) -> None:
    answer = client.post(path, json=body)
    if not answer.is_success:
        raise SystemExit(f"{path}: {answer.text}")
