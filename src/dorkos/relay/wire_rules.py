"""Access rules on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dorkos.operation import Wire, left_out
from dorkos.relay.policy import PRIORITY_MAX
from dorkos.vocabulary import BreakerState, DeadLetterReason, RuleAction

Pattern = Annotated[str, Field(description="A subject, in which `*` is one token and a last `>` the rest.")]


class RuleView(Wire):
    """A rule. `managedBy` says what it was made for and goes with; `fault` why it cannot be understood."""

    id: str
    from_pattern: str = Field(alias="from")
    to_pattern: str = Field(alias="to")
    action: RuleAction
    priority: int
    description: str | None
    managed_by: str | None
    created_by: str | None
    created_at: str
    fault: str | None = left_out()


class RuleInput(Wire):
    """A rule to add. It takes the place of one with the same patterns and priority."""

    from_pattern: Pattern = Field(alias="from")
    to_pattern: Pattern = Field(alias="to")
    action: RuleAction
    priority: int = Field(
        default=200,
        gt=-PRIORITY_MAX,
        lt=PRIORITY_MAX,
        description="The highest decides. What registrations make has 100, 50 and 10.",
    )
    description: str | None = Field(default=None, max_length=500, description="What it is for.")


class AddedRule(RuleView):
    """The rule, and the ids of those that say the opposite about some of the same messages."""

    contradicts: list[str]


class RuleId(Wire):
    """One rule."""

    id: str = Field(description="The rule's id.")


class ExplainInput(Wire):
    """Who would send to whom."""

    sender: str | None = Field(
        default=None, alias="from", description="The sender's address; the caller's own if left out."
    )
    target: str = Field(alias="to", description="The subject that would be sent to.")


class DecidingRule(Wire):
    """The rule that decides."""

    id: str
    from_pattern: str = Field(alias="from")
    to_pattern: str = Field(alias="to")
    action: RuleAction
    priority: int


class ChangeView(Wire):
    """One step that would change the decision: a command, and whether the message may pass afterwards."""

    command: str
    allowed: bool
    why: str


class LimitView(Wire):
    """How much of a limit is used; `stops` says that the next message is stopped by it."""

    limit: Literal["rate", "loop"]
    used: int
    allowed: int
    stops: bool
    detail: str


class StopView(Wire):
    """A message of this sender to this target that stopped in the last 24 hours."""

    message_id: str
    chain_id: str
    reason: DeadLetterReason
    detail: str
    failed_at: str


class MailboxState(Wire):
    """The mailbox of the target, null where there is none."""

    is_open: bool
    pending_count: int
    pressure: float
    breaker: BreakerState


class ExplainAnswer(Wire):
    """The decision of the rules (`rule` null: none matched), and what else may stop a message.

    `limits` are those of the sender and of the pair, which do not bind the operator; `stopped` are the newest
    messages that stopped on this way.
    """

    sender: str = Field(alias="from")
    target: str = Field(alias="to")
    allowed: bool
    why: str
    rule: DecidingRule | None
    changes: list[ChangeView]
    limits: list[LimitView]
    mailbox: MailboxState | None
    stopped: list[StopView]
