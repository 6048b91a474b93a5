"""Webhooks that come in: a signed request becomes a message, once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import is_ulid, new_id
from dorkos.relay import payload
from dorkos.relay.adapters import secrets, store
from dorkos.relay.adapters.configs import WebhookConfig, WebhookInbound, config_of
from dorkos.relay.adapters.model import Adapter, AdapterType
from dorkos.relay.adapters.origin import check_origin
from dorkos.relay.adapters.signature import MESSAGE_HEADER, is_nonce, is_signed, is_timely
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.service import RelayService
from dorkos.storable import parse_json
from dorkos.vocabulary import AdapterMarkKind

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a request says of itself. `headers` by their lower-case names."""

    headers: Mapping[str, str]
    body: bytes


class WebhookInbox:
    """Verifies requests and publishes them, as the adapter that they came to."""

    def __init__(self, database: Database, clock: Clock, relay: RelayService) -> None:
        """`relay` carries what comes in by the way of every message."""
        self._database = database
        self._clock = clock
        self._relay = relay

    async def accept(self, adapter_id: str, request: SignedRequest) -> Receipt:
        """Publish what a request says. What it is answered with is what is stored.

        The nonce is stored with the message: after a failure the same request may come again, after a
        success it may not. Raises `adapter_not_found`, `signature_invalid`, `invalid_json`, and the refusals
        of a publish.
        """
        adapter, inbound = await self._listening(adapter_id)
        nonce = self._verify(inbound, request)
        value = parse_json(request.body) if request.body.strip() else None
        # A repetition by key has another nonce, and is to be the same message all the same.
        key = request.headers.get("idempotency-key")
        said = {
            "type": "webhook",
            "data": value,
            "metadata": {"platform": "webhook", "adapterId": adapter.id, **({} if key else {"nonce": nonce})},
            "responseContext": {"platform": "webhook"},
        }
        traced = request.headers.get("traceparent", "")
        came_from = request.headers.get(MESSAGE_HEADER.lower(), "")
        envelope = Envelope(
            id=new_id(),
            subject=inbound.subject,
            payload=payload.encode(said),
            reply_to=adapter.subject if adapter.config.get("outbound") else None,
            key=key,
            # A message of ours that came back goes on where it left off: it gains no hop by the way round.
            answers=came_from if is_ulid(came_from) else None,
            traceparent=traced if _TRACEPARENT.fullmatch(traced) else None,
        )

        def change(tx: Transaction) -> Receipt:
            # It may just have been removed, or switched off.
            if not store.get(tx, adapter.id)[0].enabled:
                raise _not_running()
            if not store.mark(tx, adapter.id, AdapterMarkKind.RECEIVED, nonce, envelope.id):
                raise _unauthorized("Nonce already seen (replay)")
            self._check_way_round(tx, envelope)
            receipt = self._relay.publish_in(tx, adapter.caller, envelope)
            store.count(tx, adapter.id, inbound=1)
            return receipt

        return await self._database.write(change)

    def _check_way_round(self, tx: Transaction, envelope: Envelope) -> None:
        """Raise `forbidden` for what somebody sent by a webhook to where the rules do not let it send."""
        if envelope.answers is None:
            return
        found = tx.execute(sa.select(m.c.sender).where(m.c.id == envelope.answers)).scalar_one_or_none()
        check_origin(tx, self._relay.access, found, envelope.subject)

    async def _listening(self, adapter_id: str) -> tuple[Adapter, WebhookInbound]:
        try:
            adapter, _ = await self._database.read(lambda connection: store.get(connection, adapter_id))
        except DorkError as refusal:
            if refusal.code is ErrorCode.ADAPTER_NOT_FOUND:
                raise _not_found() from refusal
            raise
        if adapter.type != AdapterType.WEBHOOK:
            raise _not_found()
        try:
            config = config_of(adapter)
        except DorkError as refusal:  # Brought over as it was; its state says what is wrong with it.
            raise _not_found() from refusal
        assert isinstance(config, WebhookConfig)
        if config.inbound is None:
            raise _not_found()
        if not adapter.enabled:
            raise _not_running()
        return adapter, config.inbound

    def _verify(self, inbound: WebhookInbound, request: SignedRequest) -> str:
        """The nonce of a request that holds. Everything that does not is refused in the same way."""
        timestamp = request.headers.get("x-timestamp", "")
        nonce = request.headers.get("x-nonce", "")
        now = self._clock.now()
        if not is_timely(timestamp, now.timestamp()):
            raise _unauthorized("Timestamp expired or invalid")
        signature = request.headers.get("x-signature", "")
        known = _secrets(inbound, now)
        if not is_nonce(nonce) or not is_signed(known, timestamp, nonce, request.body, signature):
            raise _unauthorized("Invalid signature")
        return nonce


def _secrets(inbound: WebhookInbound, now: datetime) -> list[str]:
    """The secrets that hold at the moment: the one, and the one before it until its time is over."""
    found = [secrets.resolve(inbound.secret)]
    until = inbound.previous_secret_until
    if inbound.previous_secret is not None and until is not None and now <= until:
        found.append(secrets.resolve(inbound.previous_secret))
    return found


def _not_found() -> DorkError:
    return DorkError(
        ErrorCode.ADAPTER_NOT_FOUND,
        "Webhook adapter not found",
        hint="The last part of the address is the id of a webhook that has `inbound`.",
    )


def _not_running() -> DorkError:
    return DorkError(ErrorCode.ADAPTER_NOT_FOUND, "Adapter not running", hint="It was switched off.")


def _unauthorized(why: str) -> DorkError:
    return DorkError(
        ErrorCode.SIGNATURE_INVALID,
        why,
        hint="Sign `<timestamp>.<nonce>.<raw body>`, each time with another nonce: see docs/adapters.md.",
    )
