"""Browser sessions: a one-time link that a browser exchanges for a cookie.

Both secrets are rows of `tokens`, of which only a hash is kept. Their hashes carry the kind in front, so
that a link, a cookie and a bearer token can never stand in for one another.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.identity.tokens import hash_secret
from dorkos.vocabulary import Scope

LINK_LIFETIME = timedelta(minutes=5)
SESSION_LIFETIME = timedelta(days=30)
# How old "last used" may be before a request writes it anew: not every page view is worth a commit.
USE_NOTED_EVERY = timedelta(minutes=5)

_LINK = "link:"
_SESSION = "session:"
_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A browser that is logged in. `name` is what it calls itself, which nobody has checked."""

    id: str
    name: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


def mint_link(tx: Transaction, *, link_id: str, secret: str, caller: Caller) -> datetime:
    """Store a link that logs one browser in as `caller`, once; returns when it ends unused."""
    expires_at = tx.now() + LINK_LIFETIME
    row = {
        "id": link_id,
        "hash": _LINK + hash_secret(secret),
        "subject": caller.subject,
        "name": "login link",
        "scopes": sorted(scope.value for scope in caller.scopes),
        "created_by": caller.subject,
        "created_at": tx.now(),
        "expires_at": expires_at,
    }
    tx.execute(tokens.insert(), row)
    return expires_at


def exchange(tx: Transaction, link_secret: str, *, session_id: str, secret: str, browser: str) -> None:
    """Turn the link into a session, which `secret` opens from the commit on. Raises `link_invalid`.

    The link is used up by one conditional UPDATE, so of two browsers that follow it one is refused.
    """
    now = tx.now()
    link = tx.execute(
        tokens.update()
        .where(
            tokens.c.hash == _LINK + hash_secret(link_secret),
            tokens.c.revoked_at.is_(None),
            tokens.c.expires_at > now,
        )
        .values(revoked_at=now, last_used_at=now)
        .returning(tokens.c.subject, tokens.c.scopes)
    ).one_or_none()
    if link is None:
        raise DorkError(
            ErrorCode.LINK_INVALID,
            "This link was used already, is older than five minutes, or is none of this server's.",
            hint="Ask for a new one with `dorkos open`.",
        )
    row = {
        "id": session_id,
        "hash": _SESSION + hash_secret(secret),
        "subject": link.subject,
        "name": browser[:_NAME_MAX] or "a browser without a name",
        "scopes": link.scopes,
        "created_by": link.subject,
        "created_at": now,
        "expires_at": now + SESSION_LIFETIME,
        "last_used_at": now,
    }
    tx.execute(tokens.insert(), row)
    tx.emit("system.session.opened", session_id, {"name": row["name"]}, actor=link.subject)


def find(connection: sa.Connection, secret: str, now: datetime) -> tuple[Caller, BrowserSession] | None:
    """Who holds the cookie `secret`, and since when; None if it is unknown, expired or ended."""
    row = connection.execute(
        sa.select(tokens).where(
            tokens.c.hash == _SESSION + hash_secret(secret),
            tokens.c.revoked_at.is_(None),
            tokens.c.expires_at > now,
        )
    ).one_or_none()
    if row is None:
        return None
    caller = Caller(row.subject, frozenset(Scope(scope) for scope in row.scopes))
    return caller, _session(row)


def note_use(tx: Transaction, session_id: str) -> None:
    """Write down that the session is in use. Harmless to repeat."""
    tx.execute(tokens.update().where(tokens.c.id == session_id).values(last_used_at=tx.now()))


def list_open(connection: sa.Connection, now: datetime) -> list[BrowserSession]:
    """Every session that still opens, the newest first."""
    rows = connection.execute(
        sa.select(tokens)
        .where(tokens.c.hash.startswith(_SESSION), tokens.c.revoked_at.is_(None), tokens.c.expires_at > now)
        .order_by(tokens.c.created_at.desc(), tokens.c.id.desc())
    )
    return [_session(row) for row in rows]


def end(tx: Transaction, session_id: str, *, actor: str) -> None:
    """End a session, from the commit on. Raises `session_not_found` if it is none that is open."""
    ended = tx.execute(
        tokens.update()
        .where(
            tokens.c.id == session_id,
            tokens.c.hash.startswith(_SESSION),
            tokens.c.revoked_at.is_(None),
            tokens.c.expires_at > tx.now(),
        )
        .values(revoked_at=tx.now())
        .returning(tokens.c.name)
    ).one_or_none()
    if ended is None:
        raise DorkError(
            ErrorCode.SESSION_NOT_FOUND,
            f"No open browser session has the id {session_id!r}.",
            hint="`dorkos sessions list` shows those that are open.",
        )
    tx.emit("system.session.ended", session_id, {"name": ended.name}, actor=actor)


def form_secret(secret: str) -> str:
    """What the forms of a session carry, to show that they came from a page of ours.

    It is derived, so nothing more is stored, and it does not give the cookie away.
    """
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"form", hashlib.sha256).hexdigest()


def _session(row: sa.Row[tuple[object, ...]]) -> BrowserSession:
    return BrowserSession(row.id, row.name or "", row.created_at, row.expires_at, row.last_used_at)
