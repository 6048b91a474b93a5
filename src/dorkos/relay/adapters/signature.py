"""Signatures of webhooks: HMAC-SHA256 over `<timestamp>.<nonce>.<raw body>`, in hex."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

# Names the message of this system that a request stands for, so that one that comes back is known again.
MESSAGE_HEADER = "X-DorkOS-Message"
# How far the two clocks may differ; within it a nonce must not come twice.
WINDOW_S = 300
# No dot: it ends the nonce in what is signed, so that none can be moved into the body.
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,128}")
_SECONDS = re.compile(r"[0-9]{1,12}")


def sign(secret: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The signature of a request."""
    signed = f"{timestamp}.{nonce}.".encode() + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def is_nonce(text: str) -> bool:
    """Whether it can be a nonce: 8 to 128 letters, digits, `-` and `_`."""
    return bool(_NONCE.fullmatch(text))


def is_timely(timestamp: str, now_s: float) -> bool:
    """Whether it is a time in Unix seconds, and near enough to `now_s`."""
    return bool(_SECONDS.fullmatch(timestamp)) and abs(int(timestamp) - now_s) <= WINDOW_S


def is_signed(secrets: Iterable[str], timestamp: str, nonce: str, body: bytes, signature: str) -> bool:
    """Whether the signature was made with one of the secrets. Takes the same time for every wrong one."""
    given = signature.strip().lower().encode("utf-8", "replace")
    fits = [
        hmac.compare_digest(sign(secret, timestamp, nonce, body).encode("ascii"), given) for secret in secrets
    ]
    return any(fits)
