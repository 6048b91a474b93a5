"""Tokens that a person makes: listed without secrets, ended by id, each step in the audit trail."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.system import events, tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR_SUBJECT
from dorkos.identity.token_list import TokenService
from dorkos.identity.tokens import caller_of
from dorkos.vocabulary import Scope, TokenKind

DAY = timedelta(days=1)


async def made(service: TokenService, name: str, kind: TokenKind = TokenKind.READ_ONLY) -> tuple[str, str]:
    """A new token that lasts a day: (id, secret)."""
    token, secret = await service.create(kind=kind, name=name, lifetime=DAY, actor=OPERATOR_SUBJECT)
    return token.id, secret


async def listed(service: TokenService, *, ended: bool = False, limit: int = 10) -> list[str | None]:
    """The names in the list."""
    found = await service.tokens(ended=ended, runs=False, before=None, limit=limit)
    return [token.name for token in found]


@pytest.mark.parametrize(
    ("kind", "scopes"),
    [(TokenKind.OPERATOR, frozenset(Scope)), (TokenKind.READ_ONLY, frozenset({Scope.OBSERVE}))],
)
async def test_a_token_allows_what_its_kind_says_and_speaks_by_its_name(
    db: Database, clock: ManualClock, kind: TokenKind, scopes: frozenset[Scope]
) -> None:
    """So that the audit trail tells which of a person's tokens did it."""
    _, secret = await made(TokenService(db, clock), "Kim's phone!", kind)
    caller = await db.read(lambda c: caller_of(c, secret, clock.now()))
    assert caller is not None
    assert (caller.scopes, caller.subject) == (scopes, "relay.human.kim-s-phone")


async def test_the_newest_come_first_and_what_has_ended_only_on_request(
    db: Database, clock: ManualClock
) -> None:
    """Revoked and expired ones alike; pages follow one another."""
    service = TokenService(db, clock)
    await made(service, "old")
    clock.advance(timedelta(hours=25))
    revoked, _ = await made(service, "revoked")
    await service.revoke(revoked, actor=OPERATOR_SUBJECT)
    await made(service, "first")
    await made(service, "second")

    assert await listed(service) == ["second", "first"]
    assert await listed(service, ended=True) == ["second", "first", "revoked", "old"]
    page = await service.tokens(ended=True, runs=False, before=None, limit=2)
    following = await service.tokens(ended=True, runs=False, before=page[-1].id, limit=2)
    assert [token.name for token in following] == ["revoked", "old"]
    assert [token.holds(clock.now()) for token in following] == [False, False]


async def test_a_revoked_token_opens_nothing_and_cannot_be_revoked_again(
    db: Database, clock: ManualClock
) -> None:
    """Nor can one that has expired, that is unknown, or that opens a browser session."""
    service = TokenService(db, clock)
    token_id, secret = await made(service, "phone")
    session_id, _ = await made(service, "browser")
    await db.write(
        lambda tx: tx.execute(
            tokens.update().where(tokens.c.id == session_id).values(hash="session:" + "0" * 64)
        )
    )
    assert (await service.revoke(token_id, actor=OPERATOR_SUBJECT)).revoked_at == clock.now()
    assert await db.read(lambda c: caller_of(c, secret, clock.now())) is None
    expired, _ = await made(service, "expired")
    clock.advance(DAY)
    for gone in (token_id, expired, session_id, "01HZZZZZZZZZZZZZZZZZZZZZZZ", "x"):
        with pytest.raises(DorkError) as refusal:
            await service.revoke(gone, actor=OPERATOR_SUBJECT)
        assert refusal.value.code is ErrorCode.TOKEN_NOT_FOUND
    assert "browser" not in await listed(service, ended=True)


async def test_the_audit_trail_tells_who_let_whom_in(db: Database, clock: ManualClock) -> None:
    """And neither it nor the database holds the secret."""
    service = TokenService(db, clock)
    token_id, secret = await made(service, "phone", TokenKind.OPERATOR)
    await service.revoke(token_id, actor="relay.human.kim")
    rows = await db.read(
        lambda c: c.execute(
            sa.select(events).where(events.c.entity_id == token_id).order_by(events.c.position)
        ).all()
    )
    assert [(row.kind, row.actor) for row in rows] == [
        ("system.token.created", OPERATOR_SUBJECT),
        ("system.token.revoked", "relay.human.kim"),
    ]
    assert rows[0].data == {"name": "phone", "kind": "operator", "subject": "relay.human.phone"}
    stored = await db.read(lambda c: str(c.execute(sa.select(tokens)).all()))
    assert secret not in stored
