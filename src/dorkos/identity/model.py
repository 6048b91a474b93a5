"""Callers: who is asking, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from dorkos.errors import DorkError, ErrorCode
from dorkos.vocabulary import Scope

OPERATOR_SUBJECT = "relay.human.operator"
_HUMAN_PREFIX = "relay.human."


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. Made by the server from a verified token, never from a request's claims.

    `subject` is the Relay address it speaks as. `run_id` is set for a token that belongs to a run,
    `agent_id` for one that belongs to an agent, `token_id` for every one that
    is stored.
    """

    subject: str
    scopes: frozenset[Scope]
    run_id: str | None = None
    agent_id: str | None = None
    token_id: str | None = None

    @property
    def is_operator(self) -> bool:
        """Whether this is the person who owns the data directory."""
        return Scope.OPERATE in self.scopes

    def may(self, scope: Scope | None) -> bool:
        """Whether the token allows `scope`. The operator's allows everything, and every token allows None."""
        return scope is None or self.is_operator or scope in self.scopes

    def require(self, scope: Scope | None) -> None:
        """Raise `forbidden` unless the token allows `scope`."""
        if self.may(scope):
            return
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"{self.subject} may not do this: it needs the scope `{scope}`.",
            hint="Use the operator's token, or ask the operator.",
        )

    def speaks_as(self, claimed: str | None) -> str:
        """The sender to stamp on a message. Raises `sender_mismatch` for any other claim.

        The operator may speak as any human; everybody else only as themselves.
        """
        if claimed is None or claimed == self.subject:
            return self.subject
        if self.is_operator and claimed.startswith(_HUMAN_PREFIX):
            return claimed
        raise DorkError(
            ErrorCode.SENDER_MISMATCH,
            f"`from` says {claimed!r}, but the token belongs to {self.subject!r}.",
            hint="Leave `from` out: the server stamps the sender.",
        )

    def owns_mailbox(self, subject: str) -> bool:
        """Whether it may claim from this mailbox. The operator may claim from any."""
        return self.is_operator or subject == self.subject


OPERATOR = Caller(OPERATOR_SUBJECT, frozenset(Scope))
