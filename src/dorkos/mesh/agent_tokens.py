"""The long-lived token of an agent: what a program that is not one of our runs speaks with as the agent."""

from __future__ import annotations

from datetime import timedelta

from dorkos.db.database import Transaction
from dorkos.identity.tokens import NewToken, mint, new_secret, revoke_of_agent
from dorkos.ids import new_id
from dorkos.mesh.model import Agent
from dorkos.vocabulary import Scope

_SCOPES = frozenset({Scope.SEND, Scope.RECEIVE})


def draft_token() -> NewToken:
    """What must be made outside the change. Whose it is, is filled in by `issue`."""
    return NewToken(new_id(), new_secret(), subject="", scopes=_SCOPES)


def issue(tx: Transaction, agent: Agent, draft: NewToken, *, lifetime: timedelta) -> None:
    """Make the draft the agent's only long-lived token. Tokens of its runs are left alone.

    It speaks as the agent's subject, and may send and receive, no more. It goes with the agent.
    """
    revoke_of_agent(tx, agent.id)
    token = NewToken(draft.id, draft.secret, agent.subject, draft.scopes, agent_id=agent.id)
    mint(tx, token, expires_at=tx.now() + lifetime)
