"""Settings of each kind of adapter, and what they may be. Checked when they are given, and at each start.

A setting that this version does not know is kept in the database and ignored, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.adapters import secrets
from dorkos.relay.adapters.model import LINEAGE_AGENT, Adapter, AdapterType
from dorkos.relay.subjects import validate_pattern, validate_subject

SECRET_LENGTH_MIN = 16
# Set by the delivery itself; a configured one could forge a signature or split the request.
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "idempotency-key"}
)
_OWN_PREFIXES = ("x-dorkos-", "x-signature", "x-timestamp", "x-nonce")


def _subject(text: str) -> str:
    return _checked(text, validate_subject)


def _pattern(text: str) -> str:
    return _checked(text, validate_pattern)


def _checked(text: str, check: Any) -> str:
    try:
        check(text)
    except DorkError as refusal:
        raise ValueError(refusal.message) from refusal
    return text


def _secret(text: str) -> str:
    if not secrets.is_reference(text) and len(text) < SECRET_LENGTH_MIN:
        raise ValueError(f"a secret has at least {SECRET_LENGTH_MIN} characters")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port  # Raises for what is no port.
    except ValueError as fault:
        raise ValueError(f"it is no URL: {fault}") from fault
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it has to be an http or https URL with a host")
    if parts.username or parts.password:
        raise ValueError("no password may stand in it; use a header")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it has to be percent-encoded")
    return text


def _headers(given: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
            raise ValueError(f"the header {name} is set by the delivery itself")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name} holds a control character, or one that is not ASCII")
    return given


Subject = Annotated[str, AfterValidator(_subject)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Secret = Annotated[str, AfterValidator(_secret)]


class _Config(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class WebhookInbound(_Config):
    """What a webhook takes in: signed requests, published to `subject`."""

    subject: Subject
    secret: Secret
    previous_secret: Secret | None = None
    previous_secret_until: AwareDatetime | None = None


class WebhookOutbound(_Config):
    """Where a webhook sends what reaches its mailbox, and what other subjects it takes along.

    Without `subjects` these are the inbound subject and all below it, as in DorkOS for Node.
    """

    url: Annotated[str, AfterValidator(_url)]
    secret: Secret
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    subjects: list[Pattern] | None = Field(default=None, max_length=64)
    allow_private: bool = False
    timeout_seconds: int = Field(default=10, ge=1, le=60)
    max_attempts: int = Field(default=8, ge=1, le=100)


class WebhookConfig(_Config):
    """A webhook takes in, sends, or both."""

    inbound: WebhookInbound | None = None
    outbound: WebhookOutbound | None = None

    @model_validator(mode="after")
    def _has_a_side(self) -> WebhookConfig:
        if self.inbound is None and self.outbound is None:
            raise ValueError("`inbound` or `outbound` is needed")
        return self

    def patterns(self) -> Sequence[str]:
        """Whose messages it sends besides those to its own mailbox."""
        if self.outbound is None:
            return ()
        if self.outbound.subjects is not None:
            return self.outbound.subjects
        return () if self.inbound is None else (self.inbound.subject, f"{self.inbound.subject}.>")


class TelegramConfig(_Config):
    """A bot. It hears only the chats that are named: whoever finds a bot can write to it.

    `subject` is where their messages go; without it, each chat's own address.
    """

    token: Annotated[str, Field(min_length=1)]
    mode: str = "polling"
    chats: list[int] = Field(default=[], max_length=1000)
    subject: Subject | None = None
    api_url: Annotated[str, AfterValidator(_url)] = "https://api.telegram.org"
    max_attempts: int = Field(default=8, ge=1, le=100)

    @model_validator(mode="after")
    def _polls(self) -> TelegramConfig:
        if self.mode != "polling":
            raise ValueError("`mode` is polling: no other is offered here")
        return self


class MaildirConfig(_Config):
    """A folder of mailboxes, each with `new`, `cur`, `failed`; None is `mailboxes` in the data directory."""

    path: Path | None = None

    @model_validator(mode="after")
    def _is_absolute(self) -> MaildirConfig:
        if self.path is not None and not self.path.is_absolute():
            raise ValueError("`path` has to be absolute")
        return self


class AgentConfig(_Config):
    """The switch of message runs. How many run at once, and how long, are settings of the scheduler."""


Config = WebhookConfig | TelegramConfig | MaildirConfig | AgentConfig
_CONFIGS: Mapping[str, type[Config]] = {
    AdapterType.WEBHOOK: WebhookConfig,
    AdapterType.TELEGRAM: TelegramConfig,
    AdapterType.MAILDIR: MaildirConfig,
    AdapterType.AGENT: AgentConfig,
    LINEAGE_AGENT: AgentConfig,
}


def checked(kind: str, settings: Mapping[str, Any]) -> Config:
    """The settings of an adapter of this kind. Raises `validation_failed`, which repeats no value."""
    if kind not in _CONFIGS:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"There are no adapters of the type {kind[:100]!r}.",
            hint=f"There are {', '.join(AdapterType)}.",
        )
    try:
        return _CONFIGS[kind].model_validate(dict(settings))
    except ValidationError as fault:
        problems: dict[str, list[str]] = {}
        # Without the input: it may be a secret.
        for problem in fault.errors(include_url=False, include_context=False, include_input=False):
            key = ".".join(str(part) for part in problem["loc"]) or "config"
            problems.setdefault(key, []).append(problem["msg"].removeprefix("Value error, "))
        name, messages = next(iter(problems.items()))
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The settings of the adapter cannot be used: `{name}`: {messages[0]}.",
            hint="docs/adapters.md lists the settings of each type.",
            details={"formErrors": [], "fieldErrors": problems},
        ) from fault


def config_of(adapter: Adapter) -> Config:
    """The settings of a stored adapter, with its secrets. Raises `validation_failed`."""
    return checked(adapter.type, secrets.whole(adapter.config, adapter.secrets))


def patterns_of(adapter: Adapter) -> Sequence[str]:
    """Whose messages an adapter takes besides those to itself; none if its settings are of no use."""
    try:
        config = config_of(adapter)
    except DorkError:
        return ()
    if isinstance(config, WebhookConfig):
        return config.patterns()
    if isinstance(config, TelegramConfig):
        named = [f"relay.human.telegram.{chat}" for chat in config.chats]
        groups = [f"relay.human.telegram.group.{chat}" for chat in config.chats]
        return (f"{adapter.subject}.*", *named, *groups)
    return ()


def inbound_of(adapter: Adapter) -> Sequence[str]:
    """Where an adapter sends what comes in; none if that is not settled, or its settings are of no use."""
    try:
        config = config_of(adapter)
    except DorkError:
        return ()
    if isinstance(config, WebhookConfig):
        return () if config.inbound is None else (config.inbound.subject,)
    if isinstance(config, TelegramConfig):
        return () if config.subject is None else (config.subject,)
    return ()


def sends(adapter: Adapter) -> bool:
    """Whether the adapter has a mailbox, from which it sends."""
    if adapter.type == AdapterType.TELEGRAM:
        return True
    return adapter.type == AdapterType.WEBHOOK and isinstance(adapter.config.get("outbound"), dict)
