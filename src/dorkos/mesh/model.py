"""Mesh's words: agents, candidates and denials, and the ports it needs from others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.identity.model import Caller
from dorkos.mesh.manifest import ResponseMode
from dorkos.vocabulary import AgentRuntime, AgentStatus, RuleAction

Source = sa.Connection | Transaction


@dataclass(frozen=True, slots=True)
class Behavior:
    """How an agent treats messages. None says nothing of it; the mode is `always` then."""

    response_mode: ResponseMode | None = None
    escalation_threshold: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether no message starts a run of it."""
        return self.response_mode is ResponseMode.SILENT


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent may spend. None inherits the setting."""

    max_hops_per_message: int | None = None
    max_calls_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """How an agent presents itself: the persona that its runs may be given, a colour and an icon."""

    persona: str | None = None
    persona_enabled: bool = True
    color: str | None = None
    icon: str | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered agent. The row is the identity; the manifest on disk is only a claim.

    `host` is the machine on which `project_path` lies; empty until a server there has seen it.
    """

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
    scan_root: str = ""
    behavior: Behavior = field(default_factory=Behavior)
    budget: Budget = field(default_factory=Budget)
    looks: Looks = field(default_factory=Looks)
    unreachable_since: datetime | None = None
    host: str = ""

    @property
    def starts_runs(self) -> bool:
        """Whether a message in its mailbox starts a run: it is in use, can be run, and is not silent."""
        return (
            self.status is AgentStatus.ACTIVE and self.entrypoint is not None and not self.behavior.is_silent
        )

    @property
    def subject(self) -> str:
        """Its Relay address, fixed at registration: `relay.agent.<namespace>.<id>`."""
        return f"relay.agent.{self.namespace}.{self.id}"


@dataclass(frozen=True, slots=True)
class Denial:
    """A path that must not be registered. `strategy` says how it was found, `manual` if a person named it."""

    id: str
    path: str
    reason: str | None
    denier: str | None
    created_at: datetime
    strategy: str = "manual"


@dataclass(frozen=True, slots=True)
class Hints:
    """What a strategy gathered about a folder, for a person to judge. `manifest_id` is only claimed.

    `schema_version` is the manifest's; one that is newer than ours will not be written to.
    """

    suggested_name: str
    detected_runtime: AgentRuntime
    inferred_capabilities: tuple[str, ...] = ()
    description: str | None = None
    namespace: str | None = None
    entrypoint: tuple[str, ...] | None = None
    manifest_id: str | None = None
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A place that could not be examined. `reason` completes a sentence that begins with the path."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that looks like an agent and is neither registered nor denied. `path` is its real path.

    `scan_root` is the root below which it was found. `duplicate_of` is the registered agent whose id its
    manifest claims: it looks like a copy of it.
    """

    path: str
    strategy: str
    hints: Hints
    discovered_at: datetime
    scan_root: str
    duplicate_of: str | None = None


class Truncation(StrEnum):
    """Which bound ended a discovery before it had seen everything."""

    DIRECTORIES = "directories"
    TIME = "time"
    CANDIDATES = "candidates"
    PROBLEMS = "problems"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a discovery has come: directories examined and still waiting, and what was found so far."""

    directories: int
    waiting: int
    candidates: int
    problems: int


@dataclass(frozen=True, slots=True)
class SearchEnd:
    """How a discovery ended. `truncated` None means it saw all."""

    progress: Progress
    truncated: Truncation | None


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

        `starts_runs` says whether its messages start runs from now on, or wait for whoever claims them.
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


@dataclass(frozen=True, slots=True)
class Work:
    """What is known elsewhere of an agent's work.

    `running_since`: a run of it is at work. `run_waits_since` and `mail_waits_since`: the oldest run, and the
    oldest message, that nobody has taken although it could have been. `next_due_at`: the earliest instant at
    which one of its schedules is due and undecided, which lies in the past only if nobody decides them.
    `schedules`: how many fire.
    """

    running_since: datetime | None = None
    run_waits_since: datetime | None = None
    mail_waits_since: datetime | None = None
    next_due_at: datetime | None = None
    schedules: int = 0

    @property
    def waiting_since(self) -> datetime | None:
        """Since when something waits, be it a run or a message."""
        waits = (self.run_waits_since, self.mail_waits_since)
        return min((since for since in waits if since is not None), default=None)


class AgentWork(Protocol):
    """Port to Pulse and Relay: what agents are doing, for their health."""

    def work_of(self, source: Source, agent_ids: list[str]) -> Mapping[str, Work]:
        """What is known of each; an agent of which nothing is known may be left out."""
        ...


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A rule about who may send to whom, as Relay keeps it. The highest priority that matches decides."""

    id: str
    from_pattern: str
    to_pattern: str
    action: RuleAction
    priority: int
    managed_by: str | None


class AccessRules(Protocol):
    """Port to Relay: the rules that stand, and those that come and go with agents."""

    @property
    def enforced(self) -> bool:
        """Whether publishing asks these rules."""
        ...

    def rules(self, source: Source) -> list[AccessRule]:
        """All rules, in the order in which they decide."""
        ...

    def rules_of(self, source: Source, sender: str) -> list[AccessRule]:
        """Those that can decide about what `sender` sends, in the order in which they decide."""
        ...

    def may_send(self, rules: list[AccessRule], sender: str, recipient: str) -> bool:
        """Whether these rules let `sender` publish to `recipient`. Pure."""
        ...

    def protect(self, tx: Transaction, *, namespace: str, rule_ids: tuple[str, str], actor: str) -> None:
        """Have the rules of a namespace: its agents reach one another, others only by a rule of their own.

        Harmless to repeat: rules that stand are left as they are, and held until the change ends.
        """
        ...

    def hold(self, tx: Transaction, *, namespace: str) -> None:
        """Hold the rules of a namespace against other changes until this one ends."""
        ...

    def release(self, tx: Transaction, *, namespace: str, actor: str) -> None:
        """Remove exactly what `protect` made, and what was opened to and from the namespace."""
        ...

    def open_between(self, tx: Transaction, *, source: str, target: str, rule_id: str, actor: str) -> None:
        """Let agents of the namespace `source` send to those of `target`. Harmless to repeat."""
        ...

    def close_between(self, tx: Transaction, *, source: str, target: str, actor: str) -> None:
        """Remove what `open_between` made, and nothing else."""
        ...


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages that were really sent from one subject to another, since some instant."""

    sender: str
    recipient: str
    messages: int
    stopped: int
    last_at: datetime


class ObservedTraffic(Protocol):
    """Port to Relay: who has sent to whom."""

    def traffic(self, source: Source, *, since: datetime) -> list[Traffic]:
        """Messages by sender and recipient. `stopped` counts those that became dead letters."""
        ...


class Connections(Protocol):
    """Port to Relay: which adapters connect agents with the outside."""

    def adapters_of(self, source: Source, subjects: Iterable[str]) -> Mapping[str, list[str]]:
        """Ids of the adapters that send to one of these subjects or take along what is sent to it."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question: the answer as JSON text, or why there is none."""

    message_id: str
    answered: bool
    payload: str | None
    detail: str | None


class Questions(Protocol):
    """Port to Relay: ask an agent something and wait for its answer."""

    async def ask(self, caller: Caller, *, subject: str, payload: str, within_s: float) -> Reply:
        """Send `payload` (JSON text) to `subject`, and wait for what that very subject replies."""
        ...
