"""Tokens as a person manages them: made by name, listed without their secrets, revoked by id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.vocabulary import Scope, TokenKind

SCOPES = {
    TokenKind.OPERATOR: frozenset(Scope),
    TokenKind.READ_ONLY: frozenset({Scope.OBSERVE}),
}
_SLUG = re.compile(r"[^a-z0-9]+")
# The hash of a bearer secret is plain hex; other kinds of secret have theirs marked, and their own lists.
_IS_BEARER = tokens.c.hash.not_like("%:%")


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token. Its secret is known to nobody but its holder."""

    id: str
    kind: TokenKind
    name: str | None
    subject: str
    scopes: frozenset[Scope]
    agent_id: str | None
    run_id: str | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and self.expires_at > now


class TokenService:
    """Makes, lists and revokes tokens."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Nothing is read yet."""
        self._database = database
        self.clock = clock

    async def create(
        self, *, kind: TokenKind, name: str, lifetime: timedelta, actor: str
    ) -> tuple[Token, str]:
        """A new operator's or read-only token, and its secret, which is told this once.

        It speaks as `relay.human.<name>`, the name in small letters and digits.
        """
        subject = f"relay.human.{_SLUG.sub('-', name.lower()).strip('-') or 'unnamed'}"
        draft = NewToken(new_id(), new_secret(), subject, SCOPES[kind], name=name, created_by=actor)

        def change(tx: Transaction) -> Token:
            mint(tx, draft, expires_at=tx.now() + lifetime)
            data = {"name": name, "kind": kind.value, "subject": subject}
            tx.emit("system.token.created", draft.id, data, actor=actor)
            return _token(tx.execute(sa.select(tokens).where(tokens.c.id == draft.id)).one())

        return await self._database.write(change), draft.secret

    async def tokens(self, *, ended: bool, runs: bool, before: str | None, limit: int) -> list[Token]:
        """The newest first. `ended` adds those that expired or were revoked, `runs` those of runs; `before`
        is the id after which the page begins."""
        now = self.clock.now()
        chosen = sa.select(tokens).where(_IS_BEARER).order_by(tokens.c.id.desc()).limit(limit)
        if not ended:
            chosen = chosen.where(tokens.c.revoked_at.is_(None), tokens.c.expires_at > now)
        if not runs:
            chosen = chosen.where(tokens.c.run_id.is_(None))
        if before is not None:
            chosen = chosen.where(tokens.c.id < before)
        return await self._database.read(
            lambda connection: [_token(row) for row in connection.execute(chosen)]
        )

    async def revoke(self, token_id: str, *, actor: str) -> Token:
        """End a token, from the commit on. Raises `token_not_found` if it does not hold any more."""

        def change(tx: Transaction) -> Token:
            row = tx.execute(
                tokens.update()
                .where(
                    tokens.c.id == token_id,
                    _IS_BEARER,
                    tokens.c.revoked_at.is_(None),
                    tokens.c.expires_at > tx.now(),
                )
                .values(revoked_at=tx.now())
                .returning(tokens)
            ).one_or_none()
            if row is None:
                raise DorkError(
                    ErrorCode.TOKEN_NOT_FOUND,
                    f"No token that holds has the id {token_id!r}.",
                    hint="`dorkos token list --all` shows those that have ended, too.",
                )
            revoked = _token(row)
            data = {"name": revoked.name, "kind": revoked.kind.value, "subject": revoked.subject}
            tx.emit("system.token.revoked", token_id, data, actor=actor)
            return revoked

        return await self._database.write(change)


def kind_of(caller: Caller) -> TokenKind:
    """The kind of token that such a caller shows."""
    return _kind(caller.run_id, caller.agent_id, caller.scopes)


def _kind(run_id: str | None, agent_id: str | None, scopes: frozenset[Scope]) -> TokenKind:
    if run_id is not None:
        return TokenKind.RUN
    if agent_id is not None:
        return TokenKind.AGENT
    return TokenKind.OPERATOR if Scope.OPERATE in scopes else TokenKind.READ_ONLY


def _token(row: sa.Row[Any]) -> Token:
    scopes = frozenset(Scope(scope) for scope in row.scopes)
    return Token(
        id=row.id,
        kind=_kind(row.run_id, row.agent_id, scopes),
        name=row.name,
        subject=row.subject,
        scopes=scopes,
        agent_id=row.agent_id,
        run_id=row.run_id,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
