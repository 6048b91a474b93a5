"""What `dorkos doctor` says of the server: who holds the data directory, and whether its address answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dorkos import __version__
from dorkos.cli.target import Target
from dorkos.db.finding import Finding, examined, fault, fine, warning
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

if TYPE_CHECKING:
    from dorkos.home import Home


def examine_server(home: Home) -> Finding:
    """Whether a server holds the directory and is fit for work. Takes no lock that could be in its way."""
    return examined("server", lambda: _server(home))


def _server(home: Home) -> Finding:
    url, pid = _recorded(home.server_path), _holder(home.holder_path)
    who = "a process" if pid is None else f"process {pid}"
    facts: dict[str, object] = {"running": True, "url": url, "pid": pid}
    if not home.is_locked():
        facts |= {"running": False}
        if url is None:
            return fine("server", "none is running", **facts)
        return warning(
            "server",
            f"the last one ({who}) ended without a good-bye: it was killed, or the machine went down",
            "Start it again with `dorkos up`; what was answered is stored, and what ran is marked.",
            **facts,
        )
    if url is None:
        return warning(
            "server",
            f"{who} holds the directory and names no address",
            "A server that starts or stops, or another command, does so for a moment. Look again.",
            **facts,
        )
    try:
        version = _ask(url, home.token_path)
    except DorkError as refusal:
        advice = refusal.hint or "Its log says more. Stop it, and start it again with `dorkos up`."
        return fault("server", f"{who} holds the directory, and at {url}: {refusal.message}", advice, **facts)
    told = f"{url} answers and is ready ({who})"
    if version != __version__:
        other = f"{told}; it is DorkOS {version}, and this command is {__version__}"
        return warning("server", other, "Start it anew with the version that is installed.", **facts)
    return fine("server", told, **facts)


def _ask(url: str, token: Path) -> str:
    """The version of the server there. Raises why it is not well."""
    from dorkos.cli.client import Client

    secret = _token(token)
    client = Client(Target(url, secret or "none"))
    try:
        answer = client.get("/api/health")
        if not isinstance(answer, dict) or "version" not in answer:
            raise DorkError(ErrorCode.NOT_RUNNING, "what answers there is no DorkOS server.")
        if secret:
            client.get("/api/ready")
    finally:
        client.close()
    return str(answer["version"])


def _token(path: Path) -> str:
    """The operator's token, or nothing: then only what needs none is asked."""
    try:
        text = read_file(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isprintable() and " " not in text else ""


def _recorded(path: Path) -> str | None:
    try:
        found: Any = json.loads(read_file(path).decode("utf-8"))["url"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) and found.startswith(("http://", "https://")) else None


def _holder(path: Path) -> int | None:
    try:
        return int(read_file(path).decode("ascii"))
    except (OSError, ValueError):
        return None
