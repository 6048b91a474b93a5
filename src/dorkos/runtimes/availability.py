"""Which runtimes work here and why others do not. Nothing is imported or started: it is told in no time."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Programs that speak the Agent Client Protocol and are driven by the name of their product.
ACP_PROGRAMS = ("gemini", "opencode", "cursor-agent")


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used. `detail` says what it is or what it lacks, `hint` how to get it."""

    name: str
    usable: bool
    detail: str
    hint: str | None = None


def examine(own: Mapping[str, Path]) -> list[Availability]:
    """Every runtime, those of the person's own last."""
    known = [look(name) for name, look in _BUILT_IN.items()]
    return known + [
        Availability(name, path.is_file(), f"A driver of your own: {path}") for name, path in own.items()
    ]


def _command(name: str) -> Availability:
    return Availability(name, True, "Any program that a schedule or a manifest names.")


def _scripted(name: str) -> Availability:
    return Availability(name, True, "Does what its prompt says, inside the server; for trying things out.")


def _acp(name: str) -> Availability:
    missing = _missing(name, "acp", "agent-client-protocol")
    if missing is not None:
        return missing
    found = [program for program in ACP_PROGRAMS if shutil.which(program)]
    here = f"found here: {', '.join(found)}" if found else f"none of {', '.join(ACP_PROGRAMS)} is on PATH"
    return Availability(name, True, f"{_version('agent-client-protocol')}; {here}.")


def _claude(name: str) -> Availability:
    missing = _missing(name, "claude_agent_sdk", "claude-agent-sdk")
    if missing is not None:
        return missing
    if not _beside("claude_agent_sdk", "_bundled/claude") and shutil.which("claude") is None:
        return Availability(
            name,
            False,
            "The SDK is installed, but Claude Code is neither in it nor on PATH.",
            "Install Claude Code so that `claude --version` works.",
        )
    return Availability(name, True, f"{_version('claude-agent-sdk')}.")


def _codex(name: str) -> Availability:
    missing = _missing(name, "openai_codex", "openai-codex")
    if missing is not None:
        return missing
    return Availability(name, True, f"{_version('openai-codex')}.")


_BUILT_IN: Mapping[str, Callable[[str], Availability]] = {
    "command": _command,
    "acp": _acp,
    "claude": _claude,
    "codex": _codex,
    "scripted": _scripted,
}


def install_hint(name: str) -> str:
    """How to get what a runtime of ours needs."""
    return f"Install it with `pip install 'dorkos[{name}]'`."


def _missing(name: str, module: str, distribution: str) -> Availability | None:
    if importlib.util.find_spec(module) is not None:
        return None
    return Availability(name, False, f"The package {distribution} is not installed.", install_hint(name))


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return f"{distribution}, without a version"


def _beside(module: str, part: str) -> bool:
    spec = importlib.util.find_spec(module)
    return any(
        (Path(place) / part).exists() for place in (spec.submodule_search_locations or () if spec else ())
    )
