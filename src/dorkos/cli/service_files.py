"""The files that let a machine start DorkOS by itself: a systemd user unit, or a launchd agent."""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from pathlib import Path

# By this line a unit is known as one of ours, that may be replaced and taken away.
MARK = "# Written by `dorkos service install`; `dorkos service uninstall` takes it away."
_PLIST_MARK = "DorkosService"
# The server ends its runs and closes the database within this time; then it would be killed.
_STOP_WITHIN_S = 60


@dataclass(frozen=True)
class Service:
    """What is to be started, with these environment variables; under launchd it prints to `log_path`."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    home: Path
    log_path: Path


def unit_path(name: str, config_home: Path) -> Path:
    """Where systemd looks for a user's units; `config_home` is XDG_CONFIG_HOME."""
    return config_home / "systemd" / "user" / f"{name}.service"


def agent_path(name: str, user_home: Path) -> Path:
    """Where launchd looks for a user's agents."""
    return user_home / "Library" / "LaunchAgents" / f"{label(name)}.plist"


def label(name: str) -> str:
    """What launchd calls it."""
    return f"dorkos.{name}" if name != "dorkos" else "dorkos"


def unit(service: Service) -> str:
    """The systemd unit."""
    environment = "\n".join(
        f"Environment={_quoted(f'{key}={value}', dollars=False)}" for key, value in service.environment
    )
    return f"""{MARK}
[Unit]
Description=DorkOS on {service.home.as_posix().replace("%", "%%")}

[Service]
Type=exec
ExecStart={" ".join(_quoted(word) for word in service.argv)}
{environment}
Restart=on-failure
RestartSec=5
# The server ends its runs by itself; only what is left then is killed.
KillMode=mixed
TimeoutStopSec={_STOP_WITHIN_S}
UMask=0077

[Install]
WantedBy=default.target
"""


def agent(service: Service) -> str:
    """The launchd agent."""
    values = {
        _PLIST_MARK: MARK.removeprefix("# "),
        "Label": label(service.name),
        "ProgramArguments": list(service.argv),
        "EnvironmentVariables": dict(service.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": _STOP_WITHIN_S,
        "StandardOutPath": str(service.log_path),
        "StandardErrorPath": str(service.log_path),
        "Umask": 0o077,
    }
    return plistlib.dumps(values, sort_keys=False).decode("utf-8")


def is_ours(text: str) -> bool:
    """Whether the file was written by this command, edited since or not."""
    return text.startswith(MARK) or f"<key>{_PLIST_MARK}</key>" in text


def has_odd_characters(text: str) -> bool:
    """Whether a text cannot stand in a unit: a line break would begin a line of its own, and what is not
    UTF-8 has no form there."""
    return re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text) is not None


def _quoted(word: str, *, dollars: bool = True) -> str:
    """A word as systemd reads it back: in quotes, its own special characters doubled."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text.replace("$", "$$") if dollars else text}"'
