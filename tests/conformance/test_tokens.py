"""Tokens of runs: valid from their commit until they expire or are revoked."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.system import tokens
from dorkos.identity.tokens import (
    NewToken,
    caller_of,
    extend_of_run,
    mint,
    new_secret,
    revoke_of_run,
    same_secret,
)
from dorkos.ids import new_id
from dorkos.vocabulary import RunState, RunTrigger, Scope


async def minted(db: Database, clock: ManualClock) -> tuple[str, str]:
    """A queued run with a token that lasts a minute: (run id, secret)."""
    run_id, secret = new_id(), new_secret()

    def change(tx: Transaction) -> None:
        tx.execute(
            pulse_runs.insert(),
            {
                "id": run_id,
                "status": RunState.QUEUED,
                "trigger": RunTrigger.MANUAL,
                "prompt": "",
                "chain_id": run_id,
                "created_at": tx.now(),
            },
        )
        token = NewToken(new_id(), secret, "relay.agent.team.a", frozenset({Scope.SEND}), run_id=run_id)
        mint(tx, token, expires_at=tx.now() + timedelta(minutes=1))

    await db.write(change)
    return run_id, secret


async def test_a_token_says_who_presents_it(db: Database, clock: ManualClock) -> None:
    """Subject, scopes and run come from the row, not from the request."""
    run_id, secret = await minted(db, clock)
    caller = await db.read(lambda c: caller_of(c, secret, clock.now()))

    assert caller is not None
    assert ("relay.agent.team.a", run_id) == (caller.subject, caller.run_id)
    assert frozenset({Scope.SEND}) == caller.scopes


async def test_the_secret_itself_is_not_stored(db: Database, clock: ManualClock) -> None:
    """A copy of the database is not a set of keys."""
    _, secret = await minted(db, clock)
    rows = await db.read(lambda c: c.execute(sa.select(tokens)).all())

    assert secret not in repr(rows)


async def test_an_expired_a_revoked_and_an_unknown_token_are_nobody(db: Database, clock: ManualClock) -> None:
    """At the very instant of its expiry a token is over."""
    run_id, secret = await minted(db, clock)
    assert await db.read(lambda c: caller_of(c, secret + "x", clock.now())) is None

    clock.advance(timedelta(minutes=1))
    assert await db.read(lambda c: caller_of(c, secret, clock.now())) is None

    await db.write(lambda tx: extend_of_run(tx, [run_id], expires_at=tx.now() + timedelta(minutes=1)))
    assert await db.read(lambda c: caller_of(c, secret, clock.now())) is not None

    await db.write(lambda tx: revoke_of_run(tx, run_id))
    await db.write(lambda tx: extend_of_run(tx, [run_id], expires_at=tx.now() + timedelta(minutes=1)))
    assert await db.read(lambda c: caller_of(c, secret, clock.now())) is None


def test_secrets_are_compared_whole() -> None:
    """A prefix is not enough, and odd characters do not break the comparison."""
    assert same_secret("abc", "abc")
    assert not same_secret("abc", "ab")
    assert not same_secret("abc", "ab\ud83d")
