"""The settings of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from dorkos.setting_groups.group import Group, setting

# A name or a literal address. No pattern: a name that somebody else can make would be one of this server's.
_HostName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=253, pattern=r"^([a-zA-Z0-9._-]+|[0-9a-fA-F:]+)$"
    ),
]


class ServerSettings(Group):
    """Where the server listens and which paths it may touch."""

    host: str = setting(
        "127.0.0.1",
        "DORKOS_HOST",
        "Address the server binds to.",
        min_length=1,
        max_length=253,
        pattern=r"^[^\s/@\[\]\x00-\x1f]+$",
    )
    port: int = setting(4242, "DORKOS_PORT", "TCP port of the server; 0 picks a free one.", ge=0, le=65535)
    allowed_hosts: list[_HostName] = setting(
        [],
        "DORKOS_ALLOWED_HOSTS",
        "Names and addresses, without port, by which other machines call this server; needed when "
        "`server.host` is more than this machine, or a proxy passes requests on. "
        "Separated by commas in the environment.",
        separator=",",
    )
    boundary: Path | None = setting(
        None,
        "DORKOS_BOUNDARY",
        "Directory that every path given to the server must lie in; empty means the user's home directory.",
    )
    max_body_bytes: int = setting(
        2 * 1024 * 1024,
        "DORKOS_MAX_BODY_BYTES",
        "Largest request body, in bytes.",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    request_seconds: int = setting(
        60,
        "DORKOS_REQUEST_SECONDS",
        "Seconds within which a request has to arrive, and again to be answered. What waits on purpose, such "
        "as a stream or a long poll, has its own limits.",
        ge=1,
        le=3600,
    )
    max_streams: int = setting(200, "DORKOS_MAX_STREAMS", "Most event streams open at once.", ge=1, le=10_000)
