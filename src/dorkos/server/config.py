"""The operations about settings. A secret is written through them, and never read."""

from __future__ import annotations

import platform
import shutil
from typing import Any
from urllib.parse import urlsplit

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from dorkos import __version__
from dorkos.identity.model import Caller
from dorkos.operation import Nothing, NoTool, Operation, Wire, left_out
from dorkos.server.configuration import Configuration
from dorkos.vocabulary import Scope

_NOT_FOR_AGENTS = NoTool("Settings are for whoever runs the server: `dorkos config`.")


class TunnelStatus(Wire):
    """The tunnel of DorkOS for Node, which there is none of here."""

    enabled: bool = False
    connected: bool = False
    url: str | None = None
    auth_enabled: bool = False
    token_configured: bool = False


class PartSwitch(Wire):
    """Whether a part of the system works."""

    enabled: bool


class MeshSwitch(PartSwitch):
    """Whether Mesh works, and where it looks for agents by itself."""

    scan_roots: list[str]


class Config(Wire):
    """The server as a client wants to know it at its start.

    The keys are the lineage's. `nodeVersion` tells the Python that runs the server; `latestVersion` is
    always null: no registry is asked.
    """

    version: str
    latest_version: str | None = None
    port: int | None
    uptime: float
    working_directory: str
    boundary: str
    node_version: str
    claude_cli_path: str | None
    tunnel: TunnelStatus
    pulse: PartSwitch
    relay: PartSwitch
    mesh: MeshSwitch


class ConfigEdits(Wire):
    """Settings by section and name, such as `{"server": {"port": 4243}}`. A null takes the key out of the
    file, so that its default holds again."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        json_schema_extra={"additionalProperties": {"type": ["object", "number", "null"]}},
    )


class ConfigChanged(Wire):
    """The settings that the file has now, over the defaults, secrets hidden.

    `changed` are the keys whose value in the file is another now, `restartNeeded` those of them that hold
    from the next start. `warnings` is absent if there is none.
    """

    success: bool = True
    config: dict[str, dict[str, Any]]
    changed: list[str]
    restart_needed: list[str]
    warnings: list[str] | None = left_out()


class SettingOut(Wire):
    """One setting.

    `value` is what the server works with, and `source` where that came from: flag, environment, file with
    its path, or default. `coming` and `comingSource` are what its next start would find. What is `secret`
    is shown as `[redacted]`; a change of what is `live` holds at once.
    """

    key: str
    value: Any
    source: str
    default: Any
    environment: str
    meaning: str
    secret: bool
    live: bool
    coming: Any
    coming_source: str
    restart_needed: bool


async def _show(part: Configuration, _caller: Caller, _asked: Nothing) -> Config:
    url = part.url()
    values = part.running.values
    return Config(
        version=__version__,
        port=None if url is None else urlsplit(url).port,
        uptime=part.uptime_s(),
        working_directory=str(part.workplace),
        boundary=str(part.boundary.root),
        node_version=f"Python {platform.python_version()}",
        claude_cli_path=shutil.which("claude"),
        tunnel=TunnelStatus(),
        pulse=PartSwitch(enabled=values.scheduler.enabled),
        relay=PartSwitch(enabled=values.relay.enabled),
        mesh=MeshSwitch(
            enabled=values.mesh.enabled, scan_roots=[str(root) for root in values.mesh.scan_roots]
        ),
    )


async def _update(part: Configuration, _caller: Caller, asked: ConfigEdits) -> ConfigChanged:
    done = await part.change(_by_key(asked.model_extra or {}))
    return ConfigChanged(
        config=await part.document(),
        changed=list(done.change.changed),
        restart_needed=list(done.waiting),
        warnings=list(done.change.remarks) or None,
    )


async def _list(part: Configuration, _caller: Caller, _asked: Nothing) -> list[SettingOut]:
    return [SettingOut.model_validate(row) for row in await part.rows()]


def _by_key(document: dict[str, Any]) -> dict[str, object]:
    """The leaves by their dotted keys. Facts about a file, which clients send back with it, are none."""
    found: dict[str, object] = {}
    for section, body in document.items():
        if section in ("version", "__internal__"):
            continue
        if isinstance(body, dict):
            found.update({f"{section}.{name}": value for name, value in body.items()})
        else:
            found[section] = body
    return found


CONFIG: tuple[Operation[Configuration, Any, Any], ...] = (
    Operation(
        name="config.show",
        summary="The server as a client wants to know it at its start",
        part="config",
        method="GET",
        path="/api/config",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=Config,
        handler=_show,
        tags=("system",),
        mcp=_NOT_FOR_AGENTS,
    ),
    Operation(
        name="config.change",
        summary="Change settings in `config.toml`",
        part="config",
        method="PATCH",
        path="/api/config",
        scope=Scope.OPERATE,
        input=ConfigEdits,
        answer=ConfigChanged,
        handler=_update,
        tags=("system",),
        mcp=_NOT_FOR_AGENTS,
    ),
    Operation(
        name="config.list",
        summary="Every setting with its value and where that comes from",
        part="config",
        method="GET",
        path="/api/config/settings",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=list[SettingOut],
        handler=_list,
        tags=("system",),
        mcp=_NOT_FOR_AGENTS,
    ),
)
