"""What a body says before the SDK sees it: as much of the protocol as has to be known there."""

from __future__ import annotations

import json

from dorkos.storable import unambiguous

_HANDSHAKE = "initialize"
_CANCELLATION = "notifications/cancelled"
_NOTIFICATIONS = "notifications/"


def message_in(body: bytes) -> object:
    """The message; None for what is no JSON, which the SDK refuses in its own words.

    Raises `invalid_json` for an object with a key twice: the SDK would take one of the two, unsaid.
    """
    try:
        return json.loads(body, object_pairs_hook=unambiguous)
    except (ValueError, RecursionError):
        return None


def asks_without_an_id(message: object) -> bool:
    """Whether it asks for something under no id that an answer could bear: a text or a whole number."""
    match message:
        case {"method": str() as method} if method.startswith(_NOTIFICATIONS):
            return False
        case {"method": str(), "id": bool()}:
            return True
        case {"method": str(), "id": str() | int()}:
            return False
        case {"method": str()}:
            return True
        case _:
            return False


def handshake_or_cancellation(message: object) -> tuple[str, object] | None:
    """`("initialize", None)`, `("notifications/cancelled", the id of a call)`, or None for all the rest."""
    match message:
        case {"method": "initialize", "id": _}:
            return _HANDSHAKE, None
        case {"method": "notifications/cancelled", "params": {"requestId": str() | int() as request_id}}:
            return _CANCELLATION, request_id
        case _:
            return None
