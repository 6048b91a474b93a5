"""What a schedule asks a Relay subject, and what came back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_index as i
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.pulse.model import Answer, AnswerState, Question
from dorkos.relay import deadletters, delivery, messages, payload, request
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.request import Request, RequestState
from dorkos.relay.subjects import validate_subject
from dorkos.vocabulary import DeadLetterReason, Scope

Publish = Callable[[Transaction, Caller, Envelope], Receipt]


class MailRequests:
    """Pulse's port to Relay: a prompt goes out as a request, and its reply is the answer."""

    def __init__(self, publish: Publish) -> None:
        """`publish` stores a message in the caller's change."""
        self._publish = publish

    def check_subject(self, subject: str) -> None:
        """Raise `invalid_subject`, or `wildcard_not_allowed` for a pattern."""
        validate_subject(subject)

    def ask(self, tx: Transaction, question: Question) -> str | None:
        """Send it, and open the mailbox of its answer. Why it was not delivered, in words, or None."""
        caller = Caller(question.sender, frozenset({Scope.SEND}), run_id=question.run_id)
        envelope = Envelope(
            question.message_id,
            question.subject,
            payload=payload.encode(question.prompt),
            expires_at=tx.now() + question.within,
            reply_within=question.within,
        )
        try:
            receipt = self._publish(tx, caller, envelope)
        except DorkError as refusal:  # What cannot be a message at all leaves nothing behind.
            return refusal.message
        if receipt.delivered_to:
            return None
        refused = receipt.recipients[0]
        return refused.detail or f"It was not delivered to {refused.subject}: {refused.outcome.value}."

    def look(self, source: sa.Connection | Transaction, message_id: str, now: datetime) -> Answer:
        """Where it stands."""
        try:
            found = request.find(source, message_id, now)
        except DorkError as refusal:
            if refusal.code is ErrorCode.MESSAGE_NOT_FOUND:
                return Answer(AnswerState.NONE, detail="The request is gone.")
            raise
        return _answer(found)

    def close(self, tx: Transaction, message_id: str) -> bool:
        """Wait no longer: take the request back from where nobody has taken it, and let no answer in.

        An answer that is there counts as read. Whether it is certain that nobody ever took the request.
        """
        now = tx.now()
        try:
            found = request.find(tx, message_id, now)
        except DorkError as refusal:
            if refusal.code is ErrorCode.MESSAGE_NOT_FOUND:
                return False
            raise
        untouched = sa.and_(i.c.message_id == message_id, i.c.attempts == 0, delivery.nobody_holds(now))
        detail = "Whoever asked does not wait for it any more."
        deadletters.fail(tx, untouched, DeadLetterReason.REJECTED, detail, actor=found.message.sender)
        if found.mailbox_id is not None:
            request.collect(tx, found.mailbox_id, actor=found.message.sender or "")
        return not any(each.attempts for each in messages.get(tx, message_id).deliveries)


def _answer(found: Request) -> Answer:
    if found.state is RequestState.REPLIED:
        assert found.reply is not None
        return Answer(AnswerState.REPLIED, text=payload.prompt_of(found.reply.payload))
    states = {
        RequestState.PENDING: AnswerState.PENDING,
        RequestState.EXPIRED: AnswerState.LATE,
        RequestState.FAILED: AnswerState.NONE,
    }
    return Answer(states[found.state], detail=found.detail)
