"""Which runtimes there are, and which one takes the turns of an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode
from dorkos.runtimes.availability import Availability, examine
from dorkos.runtimes.command import CommandRuntime
from dorkos.runtimes.driven import DrivenRuntime
from dorkos.runtimes.events import ResultStatus
from dorkos.runtimes.protocol import Runtime
from dorkos.runtimes.scripted import ScriptedRuntime
from dorkos.setting_groups.runtimes import RuntimeSettings
from dorkos.vocabulary import AgentRuntime


@dataclass(frozen=True, slots=True)
class Drive:
    """What takes the turns of one kind of agent: a runtime, and the program it starts, if it needs one."""

    runtime: str
    argv: tuple[str, ...] = ()


# Products that speak the Agent Client Protocol are driven by it, with the words that make them speak it.
_OF_PRODUCTS: Mapping[AgentRuntime, Drive] = {
    AgentRuntime.CLAUDE_CODE: Drive("claude"),
    AgentRuntime.CODEX: Drive("codex"),
    AgentRuntime.GEMINI: Drive("acp", ("gemini", "--experimental-acp")),
    AgentRuntime.OPENCODE: Drive("acp", ("opencode", "acp")),
    AgentRuntime.CURSOR: Drive("acp", ("cursor-agent", "acp")),
}


# Named alone as an entrypoint, without a word more, the product's own program means the product.
_PROGRAMS: Mapping[AgentRuntime, str] = {
    AgentRuntime.CLAUDE_CODE: "claude",
    AgentRuntime.CODEX: "codex",
    AgentRuntime.GEMINI: "gemini",
    AgentRuntime.OPENCODE: "opencode",
    AgentRuntime.CURSOR: "cursor-agent",
}


def read_exit_codes(written: Sequence[str]) -> dict[int, ResultStatus]:
    """The setting `runtimes.exitCodes`: `75=blocked` and the like. Raises `invalid_setting`."""
    found = {}
    for pair in written:
        code, _, word = pair.partition("=")
        if not (code.isascii() and code.isdigit() and 0 < int(code) < 256) or word not in set(ResultStatus):
            raise DorkError(
                ErrorCode.INVALID_SETTING,
                f"runtimes.exitCodes: {pair!r} says nothing about an exit code.",
                hint=f"Write it as 75=blocked: 1 to 255, and one of {', '.join(ResultStatus)}.",
            )
        found[int(code)] = ResultStatus(word)
    return found


class RuntimeCatalog:
    """The runtimes of this server, by name."""

    def __init__(self, settings: RuntimeSettings, own: Path) -> None:
        """Nothing is loaded: a runtime whose library is missing says so when it is used. Raises
        `invalid_setting` for exit codes that mean nothing.

        Each Python file in the folder `own`, which need not exist, is one more runtime, called as the file.
        """
        self.settings = settings
        self._folder = own
        self.exit_codes = read_exit_codes(settings.exit_codes)
        self.scripted = ScriptedRuntime()
        self._runtimes: dict[str, Runtime] = {
            "command": CommandRuntime(),
            "acp": DrivenRuntime("acp"),
            "claude": DrivenRuntime(
                "claude",
                model=settings.claude_model,
                max_turns=settings.max_turns or None,
                # What is above 0 is a limit, however small.
                max_cost_microusd=ceil(settings.max_cost_usd * 1_000_000) or None,
            ),
            "codex": DrivenRuntime("codex", model=settings.codex_model),
            "scripted": self.scripted,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a schedule may give as `runtime`."""
        return (*self._runtimes, *self.own)

    @property
    def own(self) -> Mapping[str, Path]:
        """The drivers of the person's own, by name. One cannot take the place of a runtime of ours."""
        try:
            files = sorted(self._folder.glob("*.py"))
        except OSError:
            return {}
        return {file.stem: file for file in files if file.stem not in self._runtimes}

    def examine(self) -> list[Availability]:
        """Which runtimes can be used here, and why others cannot."""
        return examine(self.own)

    def named(self, name: str) -> Runtime:
        """The runtime of this name. Raises `validation_failed`."""
        found = self._runtimes.get(name)
        if found is None and (path := self.own.get(name)) is not None:
            return DrivenRuntime(str(path))
        if found is None:
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"There is no runtime {name!r}.",
                hint=f"Name one of: {', '.join(self.names)}.",
            )
        return found

    def is_in_process(self, name: str | None) -> bool:
        """Whether work of this runtime ends with the server that does it."""
        return name in self._runtimes and self._runtimes[name].in_process

    @property
    def alone(self) -> str:
        """What a schedule runs that names nothing: the setting `runtimes.default`, else Claude Code.

        A default that needs a program to drive counts as none.
        """
        default = self.settings.default
        return "claude" if default in (None, "command", "acp") else default

    def drive_of(
        self, kind: AgentRuntime, entrypoint: tuple[str, ...] | None, *, wanted: str | None
    ) -> Drive | None:
        """What takes the turns of an agent; None if nothing does.

        An entrypoint is a program that takes them, by itself or, for the kind `acp`, by that protocol.
        Without one the product decides, and for other kinds the setting `runtimes.default`. `wanted` is the
        runtime that a schedule names instead.
        """
        own = self._own_drive(kind, entrypoint)
        if wanted is None:
            return own
        if own is not None and own.runtime == wanted:
            return own
        if wanted in ("command", "acp"):
            return None if entrypoint is None else Drive(wanted, entrypoint)
        return Drive(wanted)

    def _own_drive(self, kind: AgentRuntime, entrypoint: tuple[str, ...] | None) -> Drive | None:
        if entrypoint is not None and entrypoint != (_PROGRAMS.get(kind),):
            return Drive("acp" if kind is AgentRuntime.ACP else "command", entrypoint)
        if kind in _OF_PRODUCTS:
            return _OF_PRODUCTS[kind]
        default = self.settings.default
        # These need a program, and none is named.
        return None if default in (None, "command", "acp") else Drive(default)
