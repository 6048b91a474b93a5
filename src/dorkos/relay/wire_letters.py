"""Dead letters on the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from dorkos.operation import Wire, left_out
from dorkos.relay.model import LetterFilter
from dorkos.relay.wire import Limit, MessageView, page_cursor
from dorkos.vocabulary import DeadLetterReason, PublishOutcome

LetterId = Annotated[str, Field(description="The dead letter's id.")]


class Which(Wire):
    """Which dead letters: all that agree with whatever is given."""

    endpoint_hash: str | None = Field(
        default=None, description="Only those of this mailbox, open or closed, by its hash."
    )
    subject: str | None = Field(default=None, description="Only messages that were sent to this subject.")
    sender: str | None = Field(default=None, alias="from", description="Only messages of this sender.")
    reason: DeadLetterReason | None = Field(default=None, description="Only those that stopped for this.")
    chain_id: str | None = Field(default=None, description="Only messages of this chain.")
    older_than_seconds: int | None = Field(
        default=None, ge=0, le=10 * 366 * 86_400, description="Only those that stopped at least so long ago."
    )

    def filter(self, now: datetime, *, redriven: bool = False, before: str | None = None) -> LetterFilter:
        """The filter, its ages counted back from `now`."""
        age = self.older_than_seconds
        return LetterFilter(
            endpoint_hash=self.endpoint_hash,
            subject=self.subject,
            sender=self.sender,
            reason=self.reason,
            chain_id=self.chain_id,
            older_than=None if age is None else now - timedelta(seconds=age),
            redriven=redriven,
            before=page_cursor(before),
        )


class DeadLettersInput(Which):
    """Which dead letters to list."""

    redriven: bool = Field(default=False, description="Also those that were put back.")
    cursor: Annotated[
        str | None,
        Field(description="`id` of the last one of the page before; leave it out for the newest."),
    ] = None
    limit: Limit = 50


class DeadLetterView(Wire):
    """A message that stopped, and why. `id` is the cursor for the next page.

    `redriveCount` is how often it was put back into its mailbox; `redrivenAt` is there when it was put back
    after this.
    """

    id: str
    message_id: str
    endpoint_hash: str
    endpoint: str | None
    reason: DeadLetterReason
    detail: str
    failed_at: str
    redrive_count: int
    redriven_at: str | None = left_out()
    redriven_by: str | None = left_out()
    envelope: MessageView


class Letter(Wire):
    """One dead letter."""

    id: LetterId


class RedriveAllInput(Which):
    """Which dead letters to put back."""

    limit: int = Field(default=100, ge=1, le=1000, description="Most of them, the oldest first.")


class RedriveAnswer(Wire):
    """What became of a dead letter that was to be put back: delivered, or why it stays one."""

    id: str
    message_id: str
    outcome: PublishOutcome
    detail: str | None = left_out()


class RedriveAllAnswer(Wire):
    """What became of each, and how many lie in their mailboxes again."""

    redriven: int
    letters: list[RedriveAnswer]


class PurgeAllInput(Which):
    """Which dead letters to take away."""

    limit: int = Field(default=1000, ge=1, le=100_000, description="Most of them, the oldest first.")


class PurgeAnswer(Wire):
    """How many were taken away."""

    purged: int
