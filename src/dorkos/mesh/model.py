"""Mesh's words: agents, candidates and denials, and the ports it needs from others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dorkos.db.database import Transaction
from dorkos.vocabulary import AgentRuntime, AgentStatus


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered agent. The row is the identity; the manifest on disk is only a claim."""

    id: str
    name: str
    runtime: AgentRuntime
    project_path: Path
    namespace: str
    capabilities: tuple[str, ...]
    entrypoint: tuple[str, ...] | None
    version: str | None
    description: str | None
    approver: str | None
    status: AgentStatus
    last_seen_at: datetime | None
    last_seen_event: str | None
    registered_at: datetime
    updated_at: datetime
    manifest_hash: str | None

    @property
    def subject(self) -> str:
        """Its Relay address, fixed at registration: `relay.agent.<namespace>.<id>`."""
        return f"relay.agent.{self.namespace}.{self.id}"


@dataclass(frozen=True, slots=True)
class Denial:
    """A path that must not be registered."""

    id: str
    path: str
    reason: str | None
    denier: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hints:
    """What a strategy gathered about a folder, for a person to judge. `manifest_id` is only claimed."""

    suggested_name: str
    detected_runtime: AgentRuntime
    inferred_capabilities: tuple[str, ...] = ()
    description: str | None = None
    namespace: str | None = None
    entrypoint: tuple[str, ...] | None = None
    manifest_id: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A place that could not be examined. `reason` completes a sentence that begins with the path."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that looks like an agent and is neither registered nor denied. `path` is its real path.

    `duplicate_of` is the registered agent whose id its manifest claims: it looks like a copy of it.
    """

    path: str
    strategy: str
    hints: Hints
    discovered_at: datetime
    duplicate_of: str | None = None


class Truncation(StrEnum):
    """Which bound ended a discovery before it had seen everything."""

    DIRECTORIES = "directories"
    TIME = "time"
    CANDIDATES = "candidates"
    PROBLEMS = "problems"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a walk found. `directories` counts those examined; `truncated` None means it saw all."""

    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...]
    directories: int
    truncated: Truncation | None


class Mailboxes(Protocol):
    """Port to Relay: an agent's mailbox is opened with its registration and closed with its removal."""

    def open_mailbox(
        self, tx: Transaction, *, endpoint_id: str, subject: str, agent_id: str, starts_runs: bool | None
    ) -> None:
        """Open the mailbox, or open it again if the subject had one. Harmless to repeat.

        `starts_runs` None leaves an open mailbox as it is; one that is opened starts runs then.
        """
        ...

    def close_mailbox(self, tx: Transaction, *, agent_id: str) -> None:
        """Close the agent's mailboxes; what waits in them becomes dead letters."""
        ...


class AgentSchedules(Protocol):
    """Port to Pulse: schedules of an agent that is removed must not fire."""

    def hide_schedules(self, tx: Transaction, *, agent_id: str) -> None:
        """Delete the agent's schedules and cancel its runs that wait."""
        ...
