"""The agent manifest: what `.dork/agent.json` may say, and what it means. The file itself: `manifest_file`.

A manifest is a claim. Nothing that stands in it takes effect until a person registers the folder. The same
model makes the published JSON Schema; see `manifest_schema`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dorkos.clock import from_iso
from dorkos.errors import DorkError
from dorkos.storable import check_storable
from dorkos.vocabulary import AgentRuntime

MAX_BYTES = 256 * 1024
# The version of the format that this program reads and writes. A file that names none is of version 1.
SCHEMA_VERSION = 1
_MAX_DEPTH = 64
_MAX_ARGV = 8192
_MAX_INTEGER = 2**53 - 1
_CONTROLS = ("Cc", "Zl", "Zp")
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class ResponseMode(StrEnum):
    """Which messages an agent wants to act on. `silent` means none: its mailbox only keeps them."""

    ALWAYS = "always"
    DIRECT_ONLY = "direct-only"
    MENTION_ONLY = "mention-only"
    SILENT = "silent"


def _without_controls(text: str) -> str:
    # Names end up in terminals and logs, where an escape sequence would act instead of being shown, a line
    # separator would begin a line of its own, and a change of direction would turn round what stands beside.
    if any(unicodedata.category(character) in _CONTROLS or character in _TURNS for character in text):
        raise ValueError("must not hold control characters")
    return text


def _shown_on_one_line(text: str) -> str:
    _without_controls(text)
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


def _for_people(schema: dict[str, Any]) -> None:
    # Titles that repeat a key and defaults that say nothing only make a schema long.
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
        if not field.get("default", True):
            del field["default"]


# The texts of an agent, with one rule each wherever they come from: a file, a request, a hint.
# Their length is looked at first: after a validator of ours Pydantic would speak of items, not characters.
ON_ONE_LINE = AfterValidator(_shown_on_one_line)
Name = Annotated[str, Field(max_length=200), ON_ONE_LINE, Field(min_length=1)]
Description = Annotated[str, Field(max_length=10_000)]
Capabilities = Annotated[list[Annotated[str, Field(max_length=100), ON_ONE_LINE]], Field(max_length=100)]
Entrypoint = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1, max_length=100),
    AfterValidator(_short_enough),
]
Persona = Annotated[str, Field(max_length=4000)]
# A colour or an icon, in whatever words the surface that shows it knows. Empty is none.
Mark = Annotated[str, Field(max_length=100), AfterValidator(_without_controls)]
Limit = Annotated[int, Field(ge=1, le=_MAX_INTEGER, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", json_schema_extra=_for_people)


class _Behavior(_Part):
    response_mode: ResponseMode | None = Field(
        default=None,
        description="`silent`: no message starts a run of it. With the other words each message sent to it "
        "does; which it answers is then up to the agent. `always` if nothing is said.",
    )
    escalation_threshold: float | None = Field(
        default=None, strict=True, description="Kept for the agent's own use; DorkOS does nothing with it."
    )


class _Budget(_Part):
    max_hops_per_message: Limit | None = Field(
        default=None,
        description="Messages in a chain of cause and effect that it takes part in; else `relay.maxHops`.",
    )
    max_calls_per_hour: Limit | None = Field(
        default=None,
        description="Messages sent and runs started in an hour; else `mesh.maxCallsPerHour`.",
    )


class ManifestDocument(_Part):
    """The fields of a manifest, as they stand in the file."""

    schema_version: int = Field(
        default=1,
        ge=1,
        strict=True,
        description="Version of this format. A file of a newer version is read as far as it is understood, "
        "and never written.",
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The agent's id, a ULID. Written at registration; a claim, never a proof.",
    )
    name: Name = Field(description="What to call it: one line.")
    description: Description = Field(default="", description="What it is for.")
    runtime: AgentRuntime = Field(
        description="What drives its turns. `command` is the program that `entrypoint` names."
    )
    capabilities: Capabilities = Field(default=[], description="Words by which others find it.")
    entrypoint: Entrypoint | None = Field(
        default=None,
        description="The program that takes a turn, as a list of words. It counts as it stood when a person "
        "registered the agent.",
    )
    behavior: _Behavior = Field(default_factory=_Behavior, description="How it treats messages.")
    budget: _Budget = Field(default_factory=_Budget, description="What it may spend.")
    namespace: str | None = Field(
        default=None,
        max_length=64,
        description="Part of its address, brought to a-z, 0-9 and hyphens; else after its directory. "
        "Settled when it is first registered.",
    )
    persona: Persona | None = Field(
        default=None, description="Who it is to be, in words for its model. Kept and shown."
    )
    persona_enabled: bool | None = Field(
        default=None, strict=True, description="Whether the persona counts; true if nothing is said."
    )
    color: Mark | None = Field(default=None, description="A colour to show it in.")
    icon: Mark | None = Field(default=None, description="An icon to show it by.")
    version: str | None = Field(
        default=None, min_length=1, max_length=100, description="Version of the agent itself."
    )
    registered_at: Annotated[str, AfterValidator(_instant)] | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When it was first registered, with its zone.",
    )
    registered_by: str | None = Field(
        default=None, min_length=1, max_length=200, description="Who approved that."
    )


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
    schema_version: int = 1

    @property
    def is_newer(self) -> bool:
        """Whether a newer DorkOS wrote it: fields may mean something else there, so it is left alone."""
        return self.schema_version > SCHEMA_VERSION


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
    except ValueError as fault:
        return InvalidManifest(path, str(fault))
    try:
        fields = ManifestDocument.model_validate(document)
    except ValidationError as fault:
        return InvalidManifest(path, f"{_version_note(document)}{_first_problem(fault)}")
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
        schema_version=fields.schema_version,
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
        document: object = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as fault:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels") from fault
    except json.JSONDecodeError as fault:
        raise ValueError(f"is not JSON: {fault}") from fault
    except _TwiceError:
        raise
    except ValueError as fault:  # Python gives up on the longest numbers before anybody can look at them.
        raise ValueError("cannot be stored: A number is beyond 64 bits") from fault
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")  # All reasons are one kind of error here.
    _check_depth(document)
    try:
        check_storable(document)
    except DorkError as fault:
        raise ValueError(f"cannot be stored: {fault.message.rstrip('.')}") from fault
    return document


class _TwiceError(ValueError):
    """A key stands twice in one object, so nobody can tell which of them is meant."""


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"says `{key[:60]}` twice")
        found[key] = value
    return found


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


def _version_note(document: Mapping[str, object]) -> str:
    """Why a manifest may be refused that is right by the rules of its own time."""
    version = document.get("schemaVersion")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return f"is of version {version}, newer than the {SCHEMA_VERSION} that this DorkOS knows, and "
    return ""


# Where the words of the validator are those of a programmer.
_SAID = {
    "model_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
}


def _first_problem(fault: ValidationError) -> str:
    problem = fault.errors(include_url=False)[0]
    if problem["type"] in ("too_long", "string_too_long"):
        problem["msg"] = f"must not be longer than {problem['ctx']['max_length']}"
    where = ".".join(str(part) for part in problem["loc"])
    said = _SAID.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"has no `{where}`"
    if problem["type"] == "enum":
        allowed = problem["ctx"]["expected"]
        return f"says `{where}` is {str(problem['input'])[:60]!r}; allowed are {allowed}"
    return f"has a `{where}` that is not allowed: {said}"
