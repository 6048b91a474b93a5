"""Which server a command talks to, and as whom."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dorkos.cli.options import Options
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

DEFAULT_URL = "http://127.0.0.1:4242"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and the token to show it."""

    url: str
    token: str


def find_target(options: Options, environment: Mapping[str, str]) -> Target:
    """Decide both from flags, then environment, then the data directory.

    Raises `token_missing`, or `not_running` when the data directory does not say where its server is.
    """
    url = find_url(options, environment)
    return Target(url, find_token(options, environment, url))


def find_url(options: Options, environment: Mapping[str, str]) -> str:
    """`--url`, else DORKOS_URL, else the address its server wrote into the data directory, else port 4242."""
    named = options.url or environment.get("DORKOS_URL")
    if named:
        return _checked(named)
    return recorded_url(data_directory(options, environment)) or DEFAULT_URL


def find_token(options: Options, environment: Mapping[str, str], url: str) -> str:
    """`--token`, else DORKOS_TOKEN, else the operator's file, which a run may never use."""
    if options.token is not None:
        return _sendable(options.token, "--token")
    if "DORKOS_TOKEN" in environment:
        # Set but empty is a credential that failed to arrive, not the wish to speak as the operator.
        return _sendable(environment["DORKOS_TOKEN"], "DORKOS_TOKEN")
    if environment.get("DORKOS_RUN_ID"):
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            "This is a run, and it has no token: DORKOS_TOKEN is not set.",
            hint="Pass DORKOS_TOKEN on to this program; a run never uses the operator's token.",
        )
    home = data_directory(options, environment)
    if not _is_loopback(url) and url != recorded_url(home):
        # The file belongs to the server of this directory; another host must not learn it.
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            f"{url} is not the server of {home}, so it does not get that directory's token.",
            hint="Give the token of that server with --token or DORKOS_TOKEN.",
        )
    named = bool(options.url or environment.get("DORKOS_URL"))
    return _operator_token(home / "token", server_named=named)


def data_directory(options: Options, environment: Mapping[str, str]) -> Path:
    """`--home`, else what the settings decide."""
    if options.home is None:
        from dorkos.settings import default_home

        return default_home(environment).absolute()
    try:
        return Path(options.home).expanduser().absolute()
    except RuntimeError as fault:
        raise DorkError(
            ErrorCode.USAGE, f"--home {options.home!r}: {fault}", hint="Write the directory out in full."
        ) from fault


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # What names no host fails here, or later as our fault.
        usable = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:
        usable = False
    else:
        # A name and password would be shown in messages; a token is the only credential here.
        usable = usable and "@" not in parts.netloc and not parts.query and not parts.fragment
    if not usable or not url.isprintable() or " " in url:
        raise DorkError(
            ErrorCode.USAGE, f"{url!r} is not the address of a server.", hint=f"Write it as {DEFAULT_URL}."
        )
    return url.rstrip("/")


def recorded_url(home: Path) -> str | None:
    """The address that the server of this directory wrote into it, or None if there is none.

    Raises `not_running` if it cannot be read.
    """
    path = home / "server.json"
    try:
        url = json.loads(read_file(path).decode("utf-8"))["url"]
        return _checked(str(url))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, DorkError) as fault:
        raise DorkError(
            ErrorCode.NOT_RUNNING,
            f"{path} does not say where the server is.",
            hint="Start the server again, or name it with --url.",
        ) from fault


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _operator_token(path: Path, *, server_named: bool) -> str:
    try:
        token = read_file(path).decode("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError) as fault:
        # A first start makes the file. Its absence is about the token only where a server was named.
        raise DorkError(
            ErrorCode.TOKEN_MISSING if server_named else ErrorCode.NOT_RUNNING,
            f"There is no token in {path.parent}: no server was started there yet.",
            hint="Start one with `dorkos up`, or name its directory with --home.",
        ) from fault
    except (OSError, UnicodeDecodeError) as fault:
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            f"The operator's token {path} cannot be read: {fault}.",
            hint="Run this as the user who started the server, or give a token with --token.",
        ) from fault
    return _sendable(token, str(path))


def _sendable(token: str, source: str) -> str:
    """The token, if it can stand in a header at all."""
    token = token.strip()
    if not token:
        raise DorkError(
            ErrorCode.TOKEN_MISSING, f"{source} is empty.", hint="Put a token there, or do not set it at all."
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise DorkError(
            ErrorCode.TOKEN_INVALID,
            f"{source} holds characters that no token has.",
            hint="Copy the token again, without anything around it.",
        )
    return token
