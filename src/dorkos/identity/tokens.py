"""Tokens: bearer secrets of which the database keeps only a hash.

A run gets a token when it starts and loses it when it ends. A secret that is presented but cannot be
verified is refused everywhere; it is never treated as if none had been sent.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.vocabulary import Scope

_PREFIX = "dork_"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be minted. Made outside the change, so that running the change twice is harmless."""

    id: str
    secret: str
    subject: str
    scopes: frozenset[Scope]
    run_id: str | None = None
    agent_id: str | None = None
    name: str | None = None
    created_by: str | None = None


def new_secret() -> str:
    """256 random bits, with a prefix that secret scanners can recognise."""
    return _PREFIX + secrets.token_urlsafe(32)


def mint(tx: Transaction, token: NewToken, *, expires_at: datetime) -> None:
    """Store the token. It is valid from the commit until `expires_at` or until it is revoked."""
    tx.execute(
        tokens.insert(),
        {
            "id": token.id,
            "hash": hash_secret(token.secret),
            "subject": token.subject,
            "name": token.name,
            "created_by": token.created_by,
            "scopes": sorted(scope.value for scope in token.scopes),
            "run_id": token.run_id,
            "agent_id": token.agent_id,
            "created_at": tx.now(),
            "expires_at": expires_at,
        },
    )


def revoke_of_run(tx: Transaction, run_id: str) -> None:
    """End every token of a run. Harmless to repeat."""
    tx.execute(
        tokens.update()
        .where(tokens.c.run_id == run_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=tx.now())
    )


def revoke_of_agent(tx: Transaction, agent_id: str) -> None:
    """End the long-lived tokens of an agent, not those of its runs. Harmless to repeat."""
    tx.execute(
        tokens.update()
        .where(tokens.c.agent_id == agent_id, tokens.c.run_id.is_(None), tokens.c.revoked_at.is_(None))
        .values(revoked_at=tx.now())
    )


def extend_of_run(tx: Transaction, run_ids: Iterable[str], *, expires_at: datetime) -> None:
    """Keep the tokens of running runs alive; called with each renewal of their leases."""
    tx.execute(
        tokens.update()
        .where(tokens.c.run_id.in_(list(run_ids)), tokens.c.revoked_at.is_(None))
        .values(expires_at=expires_at)
    )


def require_live_run(tx: Transaction, run_id: str) -> None:
    """Raise `token_invalid` if the run has lost its token since the request was authenticated.

    On PostgreSQL this waits for a transaction that is just ending the run, and then sees its end.
    """
    live = tx.execute(
        sa.select(tokens.c.id)
        .where(tokens.c.run_id == run_id, tokens.c.revoked_at.is_(None))
        .with_for_update(read=True)
    ).first()
    if live is None:
        raise DorkError(
            ErrorCode.TOKEN_INVALID,
            f"The run {run_id} has ended, and its token with it.",
            hint="A program that goes on after its run speaks for nobody; send before the run ends.",
        )


def require_live_token(tx: Transaction, token_id: str) -> None:
    """Raise `token_invalid` if the token has ended since the request was authenticated."""
    t = tokens.c
    holds = sa.select(t.id).where(t.id == token_id, t.revoked_at.is_(None), t.expires_at > tx.now())
    if tx.execute(holds).first() is None:
        raise DorkError(
            ErrorCode.TOKEN_INVALID,
            "The token expired or was revoked while you waited.",
            hint="Nothing was taken. Ask the operator for a new token.",
        )


def caller_of(connection: sa.Connection, secret: str, now: datetime) -> Caller | None:
    """Who presents `secret`, or None if it is unknown, expired or revoked."""
    row = connection.execute(sa.select(tokens).where(tokens.c.hash == hash_secret(secret))).one_or_none()
    if row is None or row.revoked_at is not None or row.expires_at <= now:
        return None
    if not hmac.compare_digest(row.hash, hash_secret(secret)):
        return None  # The index may compare in its own way; what counts is compared in constant time.
    return Caller(
        subject=row.subject,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        run_id=row.run_id,
        agent_id=row.agent_id,
        token_id=row.id,
    )


def note_use(tx: Transaction, token_id: str) -> None:
    """Write down that the token was shown just now. Harmless to repeat."""
    tx.execute(tokens.update().where(tokens.c.id == token_id).values(last_used_at=tx.now()))


def hash_secret(secret: str) -> str:
    """SHA-256 in hex. A plain hash is enough for a secret of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(left: str, right: str) -> bool:
    """Compare in constant time, whatever the lengths and characters."""
    return hmac.compare_digest(hash_secret(left), hash_secret(right))
