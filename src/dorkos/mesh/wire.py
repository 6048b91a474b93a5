"""Mesh's inputs and answers as they cross the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from dorkos.clock import iso
from dorkos.mesh.manifest import ON_ONE_LINE
from dorkos.mesh.model import Candidate, Denial, Discovery, Problem
from dorkos.operation import Wire, left_out
from dorkos.vocabulary import AgentRuntime

Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]
AbsolutePath = Annotated[str, Field(min_length=1, max_length=4096, description="An absolute path.")]


def blank_is_absent(value: object) -> object:
    """None for an empty filter: the lineage ignored those, and clients send them from empty fields."""
    return None if value == "" else value


Filter = Annotated[str | None, BeforeValidator(blank_is_absent)]


class DiscoverInput(Wire):
    """Where to look. Without roots, where the settings say."""

    roots: list[AbsolutePath] | None = Field(default=None, min_length=1, max_length=100)
    max_depth: int | None = Field(
        default=None, ge=0, le=20, description="Levels below a root to look at; the default is 5."
    )


class DenyInput(Wire):
    """A path that must not become an agent."""

    path: AbsolutePath
    reason: str | None = Field(default=None, max_length=1000)
    denier: Annotated[str, Field(max_length=200), ON_ONE_LINE] | None = None
    strategy: Annotated[str, Field(max_length=50), ON_ONE_LINE] = Field(
        default="manual", description="As the candidate says."
    )


class DeniedInput(Wire):
    """Which denial. In the address the whole path is one segment, its slashes written as `%2F`."""

    path: AbsolutePath


class HintsAnswer(Wire):
    """What a strategy gathered about a folder. `schemaVersion` is the manifest's, if it has one."""

    suggested_name: str
    detected_runtime: AgentRuntime
    inferred_capabilities: list[str]
    description: str | None = left_out()
    namespace: str | None
    entrypoint: list[str] | None
    schema_version: int | None


class CandidateAnswer(Wire):
    """A folder that looks like an agent, found below `scanRoot`. `duplicateOf` is the agent that it seems
    to be a copy of."""

    path: str
    strategy: str
    hints: HintsAnswer
    discovered_at: Instant
    scan_root: str
    duplicate_of: str | None


class ProblemAnswer(Wire):
    """A place that could not be examined, and why."""

    path: str
    reason: str


class DiscoverAnswer(Wire):
    """What was found. `truncated` tells that a bound ended the search early, `truncatedBy` which one."""

    candidates: list[CandidateAnswer]
    problems: list[ProblemAnswer]
    directories: int
    truncated: bool
    truncated_by: str | None


class DenialAnswer(Wire):
    """A denied path."""

    path: str
    strategy: str
    reason: str | None = left_out()
    denied_by: str
    denied_at: Instant


class DenialsAnswer(Wire):
    """All denied paths, newest first."""

    denied: list[DenialAnswer]


def show_discovery(found: Discovery) -> DiscoverAnswer:
    """A discovery as it is answered."""
    return DiscoverAnswer(
        candidates=[show_candidate(candidate) for candidate in found.candidates],
        problems=[show_problem(problem) for problem in found.problems],
        directories=found.directories,
        truncated=found.truncated is not None,
        truncated_by=found.truncated,
    )


def show_denial(denial: Denial) -> DenialAnswer:
    """A denial as it is answered."""
    return DenialAnswer(
        path=denial.path,
        strategy=denial.strategy,
        reason=denial.reason,
        denied_by=denial.denier or "unknown",
        denied_at=denial.created_at,
    )


def show_candidate(candidate: Candidate) -> CandidateAnswer:
    """A candidate as it is answered."""
    hints = candidate.hints
    return CandidateAnswer(
        path=candidate.path,
        strategy=candidate.strategy,
        hints=HintsAnswer(
            suggested_name=hints.suggested_name,
            detected_runtime=hints.detected_runtime,
            inferred_capabilities=list(hints.inferred_capabilities),
            description=hints.description,
            namespace=hints.namespace,
            entrypoint=None if hints.entrypoint is None else list(hints.entrypoint),
            schema_version=hints.schema_version,
        ),
        discovered_at=candidate.discovered_at,
        scan_root=candidate.scan_root,
        duplicate_of=candidate.duplicate_of,
    )


def show_problem(problem: Problem) -> ProblemAnswer:
    """A problem as it is answered."""
    return ProblemAnswer(path=problem.path, reason=problem.reason)
