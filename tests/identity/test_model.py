"""Callers may do what their scopes say and speak only as themselves."""

from __future__ import annotations

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.vocabulary import Scope

AGENT = Caller("relay.agent.team.01", frozenset({Scope.SEND}))


def test_a_scope_that_was_not_given_is_refused() -> None:
    """The refusal names the scope."""
    AGENT.require(Scope.SEND)
    with pytest.raises(DorkError, match="receive") as refusal:
        AGENT.require(Scope.RECEIVE)

    assert refusal.value.code == ErrorCode.FORBIDDEN


def test_the_operator_may_do_everything() -> None:
    """Every scope, every mailbox."""
    for scope in Scope:
        OPERATOR.require(scope)

    assert OPERATOR.owns_mailbox("relay.agent.team.01")


def test_the_sender_is_stamped_when_none_is_claimed() -> None:
    """Leaving `from` out is the normal case."""
    assert AGENT.speaks_as(None) == "relay.agent.team.01"
    assert AGENT.speaks_as("relay.agent.team.01") == "relay.agent.team.01"


@pytest.mark.parametrize(
    ("caller", "claimed"),
    [
        (AGENT, "relay.agent.team.02"),
        (AGENT, "relay.human.ada"),
        (OPERATOR, "relay.agent.team.01"),
        (OPERATOR, ""),
    ],
)
def test_another_sender_is_refused_not_replaced(caller: Caller, claimed: str) -> None:
    """Silently replacing a claim would hide the mistake."""
    with pytest.raises(DorkError) as refusal:
        caller.speaks_as(claimed)

    assert refusal.value.code == ErrorCode.SENDER_MISMATCH


def test_the_operator_may_speak_as_any_human() -> None:
    """People share one operator token on their own machine."""
    assert OPERATOR.speaks_as("relay.human.ada") == "relay.human.ada"


def test_an_agent_owns_its_own_mailbox_only() -> None:
    """Reading another's mail needs the operator."""
    assert AGENT.owns_mailbox("relay.agent.team.01")
    assert not AGENT.owns_mailbox("relay.agent.team.02")
