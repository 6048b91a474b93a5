"""Mailboxes as rows: which subject each belonged to, who owns it, and the order of what lies in it.

The lineage kept endpoints in memory only. A mailbox on disk is named by a hash of its subject, so the
subject is found among all those that occur in the messages; equal hashes prove it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dorkos.db.legacy.addresses import is_subject, is_wildcard, mailbox_name, unknown_subject
from dorkos.db.legacy.deliveries import Delivery
from dorkos.db.legacy.ids import derived_id
from dorkos.db.legacy.report import PART
from dorkos.db.legacy.values import plain_text
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, EndpointConsumer


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows of `relay_endpoints`, `relay_index` and `relay_dead_letters`, and each mailbox's id by subject."""

    endpoints: list[dict[str, object]]
    deliveries: list[dict[str, object]]
    dead_letters: list[dict[str, object]]
    by_subject: Mapping[str, str]


def agent_addresses(agents: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """The address of each agent's mailbox, with the agent's id.

    Before version 0.4 a namespace could be empty; the last folder of the project stood in its place.
    """
    addresses: dict[str, str] = {}
    for agent in agents:
        agent_id, namespace = str(agent["id"]), str(agent["namespace"])
        folder = str(agent["project_path"]).rstrip("/").rpartition("/")[2]
        for place in (namespace, folder):
            addresses.setdefault(f"relay.agent.{place}.{agent_id}", agent_id)
    return addresses


def place(
    deliveries: Iterable[Delivery],
    *,
    subjects: Iterable[str],
    agents: Iterable[Mapping[str, object]],
    now: datetime,
) -> Placed:
    """Put deliveries into mailboxes. `subjects` are all that may be one's name; `agents` are to be imported.

    Every agent gets its mailbox, also where nothing lies in it: it had one.
    """
    agents = list(agents)
    of_agents = agent_addresses(agents)
    names = {mailbox_name(subject): subject for subject in (*of_agents, *subjects)}
    by_mailbox: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_mailbox.setdefault(delivery.mailbox, []).append(delivery)
    placed = Placed([], [], [], {})
    ids: dict[str, str] = {}
    for mailbox, lying in sorted(by_mailbox.items()):
        subject = names.get(mailbox) or unknown_subject(mailbox)
        while subject in ids:  # Somebody did send to what looks like our stand-in.
            subject += "-2"
        lying.sort(key=lambda delivery: delivery.accepted)
        endpoint = _endpoint(subject, mailbox, lying, of_agents.get(subject))
        ids[subject] = str(endpoint["id"])
        placed.endpoints.append(endpoint)
        placed.deliveries.extend(_deliveries(ids[subject], lying))
        placed.dead_letters.extend(_dead_letters(ids[subject], lying))
    with_mailbox = {of_agents[subject] for subject in ids if subject in of_agents}
    for agent in agents:
        subject = f"relay.agent.{agent['namespace']}.{agent['id']}"
        if agent["id"] not in with_mailbox and is_subject(subject):
            endpoint = _empty_endpoint(subject, agent, now)
            ids[subject] = str(endpoint["id"])
            placed.endpoints.append(endpoint)
    return Placed(placed.endpoints, placed.deliveries, placed.dead_letters, ids)


def _endpoint(subject: str, mailbox: str, lying: list[Delivery], agent_id: str | None) -> dict[str, object]:
    pending = [delivery for delivery in lying if delivery.status is DeliveryStatus.PENDING]
    created_at = min(delivery.envelope.created_at for delivery in lying)
    told = [delivery.envelope.told_at for delivery in lying if delivery.envelope.told_at is not None]
    # A message that nobody was registered for was filed as well, under the mailbox that there should have
    # been. Nobody may send to that now either.
    never_open = is_wildcard(subject) or all(
        delivery.stop is not None and delivery.stop.reason is DeadLetterReason.NO_RECIPIENT
        for delivery in lying
    )
    return {
        "id": _id_of(subject, min(told, default=None)),
        "subject": subject,
        # A folder may have a name that is no text; its hash then stands there, as it does in the subject.
        "hash": mailbox if plain_text(mailbox) == mailbox else mailbox_name(mailbox),
        "agent_id": agent_id,
        "consumer": EndpointConsumer.CLAIM,
        "position": len(lying),
        "pending_count": len(pending),
        "pending_bytes": sum(_bytes(delivery) for delivery in pending),
        "created_at": created_at,
        "closed_at": created_at if never_open else None,
    }


def _empty_endpoint(subject: str, agent: Mapping[str, object], now: datetime) -> dict[str, object]:
    registered_at = agent.get("registered_at")
    created_at = registered_at if isinstance(registered_at, datetime) else now
    return {
        "id": _id_of(subject, None),
        "subject": subject,
        "hash": mailbox_name(subject),
        "agent_id": agent["id"],
        "consumer": EndpointConsumer.CLAIM,
        "position": 0,
        "pending_count": 0,
        "pending_bytes": 0,
        "created_at": created_at,
        "closed_at": None,
    }


def _id_of(subject: str, at: datetime | None) -> str:
    return derived_id(f"relay_endpoints:{subject}", at)


def _deliveries(endpoint_id: str, lying: list[Delivery]) -> list[dict[str, object]]:
    return [
        {
            "id": delivery.id,
            "message_id": delivery.envelope.id,
            "endpoint_id": endpoint_id,
            "position": position,
            "status": delivery.status,
            "attempts": delivery.attempts,
            "available_at": delivery.envelope.created_at,
            "expires_at": delivery.envelope.expires_at,
            "created_at": delivery.envelope.created_at,
            PART: delivery.parts,
        }
        for position, delivery in enumerate(lying, start=1)
    ]


def _dead_letters(endpoint_id: str, lying: list[Delivery]) -> list[dict[str, object]]:
    return [
        {
            # Under the id of the delivery, which is another one for each mailbox.
            "id": delivery.id,
            "message_id": delivery.envelope.id,
            "endpoint_id": endpoint_id,
            "reason": delivery.stop.reason,
            "detail": delivery.stop.detail,
            "created_at": delivery.stop.at,
        }
        for delivery in lying
        if delivery.stop is not None
    ]


def _bytes(delivery: Delivery) -> int:
    return 0 if delivery.envelope.payload is None else len(delivery.envelope.payload.encode())
