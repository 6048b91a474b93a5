"""Who is logged in with a browser: the service, and its operations."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import StringConstraints

from dorkos.clock import Clock, iso
from dorkos.db.database import Database
from dorkos.errors import DorkError
from dorkos.identity import sessions
from dorkos.identity.model import Caller
from dorkos.identity.sessions import BrowserSession
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.operation import Nothing, NoTool, Operation, Success, Wire
from dorkos.vocabulary import Scope

log = logging.getLogger("dorkos.server")

LOGIN_PATH = "/login"
_PATH = "/api/logins"
_PERSONS = NoTool("It lets a person's browser in; an agent has a token.")


class BrowserSessions:
    """Logs browsers in and out, and knows those that are logged in."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Nothing is read yet."""
        self._database = database
        self._clock = clock

    async def link(self, caller: Caller) -> tuple[str, datetime]:
        """The secret of a new link that logs one browser in as `caller`, and when it ends."""
        link_id, secret = new_id(), new_secret()
        expires_at = await self._database.write(
            lambda tx: sessions.mint_link(tx, link_id=link_id, secret=secret, caller=caller)
        )
        return secret, expires_at

    async def open(self, link_secret: str, *, browser: str) -> str:
        """Use a link up; returns the secret for the browser's cookie. Raises `link_invalid`."""
        session_id, secret = new_id(), new_secret()
        await self._database.write(
            lambda tx: sessions.exchange(
                tx, link_secret, session_id=session_id, secret=secret, browser=browser
            )
        )
        return secret

    async def caller(self, secret: str) -> Caller | None:
        """Who holds this cookie, or None if it is unknown, expired or ended."""
        now = self._clock.now()
        found = await self._database.read(lambda connection: sessions.find(connection, secret, now))
        if found is None:
            return None
        caller, session = found
        if session.last_used_at is None or now - session.last_used_at >= sessions.USE_NOTED_EVERY:
            await self._note_use(session)
        return caller

    async def end(self, session_id: str, *, actor: str) -> None:
        """End a session. Raises `session_not_found`."""
        await self._database.write(lambda tx: sessions.end(tx, session_id, actor=actor))

    async def end_own(self, secret: str) -> None:
        """End the session of this cookie, if it has not ended yet."""
        now = self._clock.now()
        found = await self._database.read(lambda connection: sessions.find(connection, secret, now))
        if found is not None:
            await self.end(found[1].id, actor=found[0].subject)

    async def open_sessions(self) -> list[BrowserSession]:
        """Those that are logged in, the newest first."""
        now = self._clock.now()
        return await self._database.read(lambda connection: sessions.list_open(connection, now))

    async def _note_use(self, session: BrowserSession) -> None:
        try:
            await self._database.write(lambda tx: sessions.note_use(tx, session.id))
        except DorkError as refusal:
            # A full disk must not keep a person from seeing that the disk is full.
            log.warning("the use of a browser session could not be noted: %s", refusal.message)


class LinkOut(Wire):
    """A link that logs one browser in, once. `path` belongs behind the server's address."""

    path: str
    expires_at: str


class SessionOut(Wire):
    """A browser that is logged in. `name` is what it calls itself."""

    id: str
    name: str
    created_at: str
    expires_at: str
    last_used_at: str | None


class SessionId(Wire):
    """Which session."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


async def _link(service: BrowserSessions, caller: Caller, _asked: Nothing) -> LinkOut:
    secret, expires_at = await service.link(caller)
    return LinkOut(path=f"{LOGIN_PATH}?link={quote(secret)}", expires_at=iso(expires_at))


async def _list(service: BrowserSessions, _caller: Caller, _asked: Nothing) -> list[SessionOut]:
    return [
        SessionOut(
            id=session.id,
            name=session.name,
            created_at=iso(session.created_at),
            expires_at=iso(session.expires_at),
            last_used_at=None if session.last_used_at is None else iso(session.last_used_at),
        )
        for session in await service.open_sessions()
    ]


async def _end(service: BrowserSessions, caller: Caller, asked: SessionId) -> Success:
    await service.end(asked.id, actor=caller.subject)
    return Success()


def _operation(
    name: str, summary: str, address: tuple[Any, str], shapes: tuple[Any, Any], handler: Any, **more: Any
) -> Operation[BrowserSessions, Any, Any]:
    return Operation(
        f"sessions.{name}",
        summary,
        "sessions",
        *address,
        Scope.OPERATE,
        *shapes,
        handler,
        tags=("sessions",),
        mcp=_PERSONS,
        **more,
    )


SESSIONS: tuple[Operation[BrowserSessions, Any, Any], ...] = (
    _operation(
        "link",
        "A link that logs one browser in, once, within five minutes",
        ("POST", f"{_PATH}/links"),
        (Nothing, LinkOut),
        _link,
        status=201,
        live=True,
    ),
    _operation("list", "Which browsers are logged in", ("GET", _PATH), (Nothing, list[SessionOut]), _list),
    _operation("end", "Log a browser out", ("DELETE", f"{_PATH}/{{id}}"), (SessionId, Success), _end),
)
