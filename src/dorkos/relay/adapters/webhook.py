"""Webhooks that go out: each message that reaches the adapter's mailbox is sent as one signed request."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

from dorkos.clock import Clock
from dorkos.ids import new_id
from dorkos.relay.adapters import secrets
from dorkos.relay.adapters.configs import WebhookOutbound
from dorkos.relay.adapters.egress import (
    Answer,
    Egress,
    ForbiddenAddressError,
    NotSentError,
    UnclearError,
)
from dorkos.relay.adapters.model import AuthFailedError, Never, NotNow, Outcome, Sent
from dorkos.relay.adapters.signature import MESSAGE_HEADER, sign
from dorkos.relay.model import Delivery

_LATER = frozenset({408, 423, 425, 429})
_WAIT_MAX = timedelta(hours=1)


class WebhookSender:
    """Sends by POST. Whatever answers with a 2xx has taken the message."""

    def __init__(self, config: WebhookOutbound, clock: Clock) -> None:
        """Nothing is resolved yet."""
        self._config = config
        self._clock = clock
        self._secret = ""
        self._headers: dict[str, str] = {}
        self._egress = Egress(allow_private=config.allow_private, timeout_s=float(config.timeout_seconds))

    async def open(self) -> None:
        """Read the secrets, and look whether the address may be reached. Nothing is sent."""
        self._secret = secrets.resolve(self._config.secret)
        self._headers = {name: secrets.resolve(value) for name, value in self._config.headers.items()}
        await self._egress.check(self._config.url)

    async def receive(self) -> None:
        """Nothing comes this way: requests arrive at the server."""

    async def send(self, delivery: Delivery) -> Outcome:
        """Send the payload of a message, as JSON."""
        message = delivery.message
        headers = {
            MESSAGE_HEADER: message.id,
            "X-DorkOS-Chain": message.chain_id,
            "X-DorkOS-Hops": str(message.hop_count),
            # The same for each attempt: it may arrive more than once.
            "Idempotency-Key": message.id,
        }
        try:
            answer = await self.post((message.payload or "null").encode("utf-8", "replace"), headers)
        except ForbiddenAddressError as fault:
            return NotNow(str(fault))
        except (NotSentError, UnclearError) as fault:
            # A webhook may get a message twice; that is what its `Idempotency-Key` is for.
            return NotNow(f"{self._config.url}: {fault}")
        return self._outcome(answer)

    async def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a signed request. Raises what `Egress.post` raises."""
        timestamp, nonce = str(int(self._clock.now().timestamp())), new_id()
        signed = {
            "Content-Type": "application/json",
            "X-Timestamp": timestamp,
            "X-Nonce": nonce,
            "X-Signature": sign(self._secret, timestamp, nonce, body),
        }
        return await self._egress.post(self._config.url, {**self._headers, **headers, **signed}, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._egress.close()

    def _outcome(self, answer: Answer) -> Outcome:
        said = f"{self._config.url} answered HTTP {answer.status}"
        if 200 <= answer.status < 300:
            return Sent()
        if answer.status == 401:
            raise AuthFailedError(said)
        if answer.status in _LATER or answer.status >= 500:
            return NotNow(f"{said}.", after=self._retry_after(answer))
        if 300 <= answer.status < 400:
            where = answer.headers.get("location", "elsewhere")[:200]
            return Never(f"{said}, a redirect to {where}. None is followed: set `url` to where it leads.")
        return Never(f"{said}, so it would not take this message later either.")

    def _retry_after(self, answer: Answer) -> timedelta | None:
        """How long the other side asks to wait, at most an hour."""
        text = answer.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit() and len(text) < 9:
            return min(timedelta(seconds=int(text)), _WAIT_MAX)
        try:
            until = parsedate_to_datetime(text) - self._clock.now()
        except (ValueError, TypeError):
            return None
        return min(max(until, timedelta()), _WAIT_MAX)


class WebhookReceiver:
    """A webhook that only takes in: there is nothing to open, for requests arrive at the server."""

    def __init__(self, secret: str) -> None:
        """`secret` is looked for at the start, so that a wrong reference shows before a request comes."""
        self._secret = secret

    async def open(self) -> None:
        """Look whether the secret can be had."""
        secrets.resolve(self._secret)

    async def receive(self) -> None:
        """Nothing to wait for."""

    async def send(self, delivery: Delivery) -> Outcome:
        """It has no mailbox."""
        return Never(f"This webhook only takes in, and does not send {delivery.message.id}.")

    async def close(self) -> None:
        """Nothing to let go of."""
