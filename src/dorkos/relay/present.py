"""From Relay's values to its answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dorkos.clock import iso
from dorkos.relay import wire
from dorkos.relay.endpoints import pressure
from dorkos.relay.model import Breaker, Delivery, Endpoint, Message, Receipt, StoredMessage
from dorkos.relay.payload import shown
from dorkos.relay.subjects import subject_hash
from dorkos.setting_groups.relay import RelaySettings
from dorkos.telemetry import traceparent
from dorkos.vocabulary import DeliveryStatus, PublishOutcome

# The lineage counts these as rejections; that nobody is there, it shows only by `deliveredTo` 0.
_REJECTIONS = (
    PublishOutcome.BACKPRESSURE,
    PublishOutcome.CIRCUIT_OPEN,
    PublishOutcome.RATE_LIMITED,
    PublishOutcome.BUDGET_EXCEEDED,
)


def receipt(value: Receipt) -> wire.PublishAnswer:
    """A receipt with the lineage's words beside ours."""
    rejected = [
        wire.Rejection(endpoint_hash=subject_hash(recipient.subject), reason=recipient.outcome)
        for recipient in value.recipients
        if recipient.outcome in _REJECTIONS
    ]
    return wire.PublishAnswer(
        message_id=value.message_id,
        delivered_to=value.delivered_to,
        chain_id=value.chain_id,
        recipients=recipients(value),
        rejected=rejected or None,
        mailbox_pressure=dict(value.pressure) or None,
        duplicate=value.duplicate or None,
    )


def recipients(value: Receipt) -> list[wire.Recipient]:
    """What became of a message at each recipient."""
    return [
        wire.Recipient(subject=each.subject, outcome=each.outcome, detail=each.detail)
        for each in value.recipients
    ]


def message(value: Message) -> wire.MessageView:
    """An envelope."""
    return wire.MessageView(**_envelope(value))


def stored_message(value: StoredMessage) -> wire.StoredMessageView:
    """An envelope with its deliveries."""
    return wire.StoredMessageView(
        **_envelope(value.message),
        status=value.status,
        deliveries=[
            wire.DeliveryView(
                endpoint=each.endpoint_subject,
                endpoint_hash=subject_hash(each.endpoint_subject),
                status=each.status,
                attempts=each.attempts,
                delivered_at=wire.instant(each.delivered_at),
            )
            for each in value.deliveries
        ],
    )


def inbox_entry(value: Delivery, now: datetime) -> wire.InboxEntry:
    """A message as it stands in a mailbox."""
    leased = value.lease_token is not None and value.available_at > now
    return wire.InboxEntry(
        **_envelope(value.message),
        endpoint_hash=subject_hash(value.endpoint_subject),
        status=value.status,
        attempts=value.attempts,
        claimed=value.status is DeliveryStatus.PENDING and (leased or value.run_id is not None),
        delivered_at=wire.instant(value.delivered_at),
    )


def claimed(value: Delivery) -> wire.ClaimedMessage:
    """A message that the caller holds."""
    assert value.lease_token is not None
    return wire.ClaimedMessage(
        message_id=value.message.id,
        lease_token=value.lease_token,
        lease_expires_at=iso(value.available_at),
        attempts=value.attempts,
        traceparent=traceparent(value.message.chain_id, value.message.id),
        message=message(value.message),
    )


def endpoint(value: Endpoint, circuit: Breaker, settings: RelaySettings) -> wire.EndpointView:
    """A mailbox with its circuit."""
    return wire.EndpointView(
        id=value.id,
        subject=value.subject,
        hash=value.hash,
        description=value.description,
        agent_id=value.agent_id,
        consumer=value.consumer,
        pending_count=value.pending_count,
        pending_bytes=value.pending_bytes,
        max_pending=settings.max_mailbox_size if value.max_pending is None else value.max_pending,
        max_pending_bytes=(
            settings.max_mailbox_bytes if value.max_pending_bytes is None else value.max_pending_bytes
        ),
        pressure=pressure(value, settings),
        breaker=circuit.state,
        probe_at=wire.instant(circuit.probe_at),
        expires_at=wire.instant(value.expires_at),
        registered_at=iso(value.created_at),
        closed_at=wire.instant(value.closed_at),
    )


def _envelope(value: Message) -> dict[str, Any]:
    envelope = {
        "id": value.id,
        "subject": value.subject,
        "sender": value.sender,
        "reply_to": value.reply_to,
        "budget": wire.Budget(
            hop_count=value.hop_count,
            max_hops=value.max_hops,
            ancestor_chain=list(value.ancestors),
            call_budget_remaining=value.calls_left,
            ttl=wire.unix_ms(value.expires_at),
        ),
        "chain_id": value.chain_id,
        "parent_id": value.parent_id,
        "run_id": value.run_id,
        "created_at": iso(value.created_at),
        "expires_at": wire.instant(value.expires_at),
    }
    return envelope if value.payload is None else envelope | {"payload": shown(value.payload)}
