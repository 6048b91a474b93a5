"""What `dorkos doctor --url` says of a server: all that it can tell of itself from afar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dorkos import __version__
from dorkos.cli.render import byte_size, count
from dorkos.db.finding import Finding, fault, fine, refused, warning
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.cli.client import Client


def examine_remote(client: Client, url: str) -> Iterator[Finding]:
    """Whether it answers, takes the token, is ready, and what it says of its state."""
    try:
        health = client.get("/api/health")
        if not isinstance(health, dict) or "version" not in health:
            raise DorkError(ErrorCode.NOT_RUNNING, "What answers there is no DorkOS server.")
    except DorkError as refusal:
        yield fault("server", f"{url}: {refusal.message}", refusal.hint or "Start it with `dorkos up`.")
        return
    yield _version(url, str(health["version"]))
    try:
        ready = client.get("/api/ready")
        yield fine("readiness", f"{count(len(ready['checks']), 'part')} work")
    except DorkError as refusal:
        yield fault("readiness", refusal.message, refusal.hint or "Its log says more: `logs/dorkos.log`.")
        if refusal.code is not ErrorCode.NOT_READY:
            return  # It does not take the token, and tells nothing more.
    try:
        yield from _state(client.get("/api/status"))
    except DorkError as refusal:
        yield refused("status", refusal)


def _version(url: str, version: str) -> Finding:
    told = f"{url} answers; it is DorkOS {version}"
    if version == __version__:
        return fine("server", told, url=url, version=version)
    advice = "Use the same version on both sides."
    return warning("server", f"{told}, and this command is {__version__}", advice, url=url, version=version)


def _state(status: Any) -> Iterator[Finding]:
    database = status["database"]
    yield fine(
        "database", f"{database['dialect']} at {database['location']}, {byte_size(database['sizeBytes'])}"
    )
    fleet = status["fleet"]
    if fleet["mode"] == "running":
        yield fine("fleet", "work may start")
    else:
        yield warning("fleet", f"it stands on {fleet['mode']}", "`dorkos fleet resume` lets it go on.")
    backups = status["backups"]
    if backups["problem"] is not None:
        yield fault("backups", backups["problem"], "Mend that; `dorkos db backup` tries again.")
    elif backups["madeBy"] == "dorkos" and backups["newest"] is None:
        yield warning("backups", "none was made yet", "`dorkos db backup` makes one now.")
    else:
        yield fine(
            "backups", f"made by {backups['madeBy']}, the newest {backups['newestAt'] or 'unknown here'}"
        )
    letters = status["relay"]["deadLetters"]
    if letters:
        told = f"{count(letters, 'message')} stopped on the way"
        yield warning("dead letters", told, "`dorkos relay dead-letters` says why.", deadLetters=letters)
    else:
        yield fine("dead letters", "none")
