"""The agent manifest: what `.dork/agent.json` may say, and what it means. The file itself: `manifest_file`.

A manifest is a claim. Nothing that stands in it takes effect until a person registers the folder.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dorkos.clock import from_iso
from dorkos.errors import DorkError
from dorkos.storable import check_storable
from dorkos.vocabulary import AgentRuntime

MAX_BYTES = 256 * 1024
_MAX_DEPTH = 64
_MAX_ARGV = 8192
_MAX_INTEGER = 2**53 - 1


class ResponseMode(StrEnum):
    """Which messages an agent wants to act on. `silent` means none: its mailbox only keeps them."""

    ALWAYS = "always"
    DIRECT_ONLY = "direct-only"
    MENTION_ONLY = "mention-only"
    SILENT = "silent"


def _shown_on_one_line(text: str) -> str:
    # Names end up in terminals and logs, where an escape sequence would act instead of being shown.
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not hold control characters")
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _short_enough(argv: list[str]) -> list[str]:
    if sum(map(len, argv)) > _MAX_ARGV:
        raise ValueError(f"must not be longer than {_MAX_ARGV} characters in all")
    return argv


def _instant(text: str) -> str:
    from_iso(text)
    return text


# The texts of an agent, with one rule each wherever they come from: a file, a request, a hint.
Line = Annotated[str, AfterValidator(_shown_on_one_line)]
Name = Annotated[Line, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=10_000)]
Capabilities = Annotated[list[Annotated[Line, Field(max_length=100)]], Field(max_length=100)]
Entrypoint = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1, max_length=100),
    AfterValidator(_short_enough),
]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class _Behavior(_Part):
    response_mode: ResponseMode | None = None
    escalation_threshold: float | None = None


class _Budget(_Part):
    max_hops_per_message: int = Field(default=5, ge=1, le=_MAX_INTEGER)
    max_calls_per_hour: int = Field(default=100, ge=1, le=_MAX_INTEGER)


class _Document(_Part):
    id: str | None = Field(default=None, min_length=1, max_length=200)
    name: Name
    description: Description = ""
    runtime: AgentRuntime
    capabilities: Capabilities = []
    behavior: _Behavior = _Behavior()
    budget: _Budget = _Budget()
    namespace: str | None = Field(default=None, max_length=64)
    registered_at: Annotated[str, AfterValidator(_instant)] | None = None
    registered_by: str | None = Field(default=None, min_length=1, max_length=200)
    entrypoint: Entrypoint | None = None
    version: str | None = Field(default=None, min_length=1, max_length=100)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid manifest. `document` is the whole JSON object, with the fields we do not know; `hash` is
    the SHA-256 of the file's bytes, in hex."""

    path: Path
    hash: str
    document: Mapping[str, object]
    id: str | None
    name: str
    description: str
    runtime: AgentRuntime
    capabilities: tuple[str, ...]
    response_mode: ResponseMode | None
    namespace: str | None
    registered_at: str | None
    registered_by: str | None
    entrypoint: tuple[str, ...] | None
    version: str | None


@dataclass(frozen=True, slots=True)
class NoManifest:
    """There is no file at `path`."""

    path: Path


@dataclass(frozen=True, slots=True)
class InvalidManifest:
    """Something is at `path`, but it is no manifest. `reason` completes "the manifest …"."""

    path: Path
    reason: str


def parse_manifest(data: bytes, path: Path) -> Manifest | InvalidManifest:
    """Read the bytes of a manifest file. Never raises for what stands in them.

    `name` and `runtime` are required, all else may be left out, so that a person can write one by hand.
    """
    try:
        document = _json_object(data)
        fields = _Document.model_validate(document)
    except ValidationError as fault:
        return InvalidManifest(path, _first_problem(fault))
    except ValueError as fault:
        return InvalidManifest(path, str(fault))
    return Manifest(
        path=path,
        hash=hash_of(data),
        document=document,
        id=fields.id,
        name=fields.name,
        description=fields.description,
        runtime=fields.runtime,
        capabilities=tuple(fields.capabilities),
        response_mode=fields.behavior.response_mode,
        namespace=fields.namespace,
        registered_at=fields.registered_at,
        registered_by=fields.registered_by,
        entrypoint=tuple(fields.entrypoint) if fields.entrypoint is not None else None,
        version=fields.version,
    )


def encode_manifest(document: Mapping[str, object]) -> bytes:
    """The file's bytes: JSON indented by two spaces, one newline at the end, UTF-8 without a BOM."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def hash_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _json_object(data: bytes) -> dict[str, object]:
    """The JSON object in `data`. Raises ValueError with a reason that completes "the manifest …"."""
    if not data:
        raise ValueError("is empty")
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ValueError("is not UTF-8") from fault
    try:
        document: object = json.loads(text)
    except RecursionError as fault:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels") from fault
    except ValueError as fault:
        raise ValueError(f"is not JSON: {fault}") from fault
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")  # All reasons are one kind of error here.
    _check_depth(document)
    try:
        check_storable(document)
    except DorkError as fault:
        raise ValueError(f"cannot be stored: {fault.message}") from fault
    return document


def _check_depth(document: object) -> None:
    # Writing JSON recurses; a file that can be read but not written back would lose its unknown fields.
    waiting = [(document, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels")
        if isinstance(item, dict):
            waiting.extend((value, depth + 1) for value in item.values())
        elif isinstance(item, list):
            waiting.extend((value, depth + 1) for value in item)


def _first_problem(fault: ValidationError) -> str:
    problem = fault.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"has no `{where}`"
    if problem["type"] == "enum":
        allowed = problem["ctx"]["expected"]
        return f"says `{where}` is {str(problem['input'])[:60]!r}; allowed are {allowed}"
    return f"has a `{where}` that is not allowed: {said}"
