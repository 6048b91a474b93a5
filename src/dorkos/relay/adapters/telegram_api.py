"""The few methods of Telegram's Bot API that are needed, and what their failures mean.

The token is part of every URL, so no URL ever stands in a message of an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dorkos.relay.adapters.egress import Egress
from dorkos.relay.adapters.model import AuthFailedError

# How long the other side holds a request for updates open when there are none.
POLL_S = 25
_TIMEOUT_S = 20.0
_WAIT_MAX = timedelta(hours=1)


class ApiRefusedError(Exception):
    """The Bot API answered that it did not do what was asked. Nothing happened."""

    def __init__(self, code: int, description: str, retry_after: timedelta | None) -> None:
        """`retry_after` is set if it asks to slow down."""
        super().__init__(f"Telegram answered {code}: {description}")
        self.code = code
        self.retry_after = retry_after


class UnclearAnswerError(Exception):
    """An answer came that does not say whether it was done."""


class BotApi:
    """One bot's connection to the Bot API. Raises what `Egress.post` raises, besides what is named."""

    def __init__(self, url: str, token: str) -> None:
        """Nothing is sent yet."""
        self._url = f"{url.rstrip('/')}/bot{token}"
        self._token = token
        # The address is the operator's choice: a Bot API server of one's own is usually a private one.
        self._egress = Egress(allow_private=True, timeout_s=_TIMEOUT_S)

    async def me(self) -> Mapping[str, Any]:
        """Who the bot is."""
        return _object(await self._call("getMe", {}))

    async def updates(self, offset: int | None) -> list[Any]:
        """What came since the update before `offset`; waits up to POLL_S for something to come."""
        asked: dict[str, object] = {"timeout": POLL_S, "allowed_updates": ["message", "channel_post"]}
        if offset is not None:
            asked["offset"] = offset
        found = await self._call("getUpdates", asked, timeout_s=POLL_S + _TIMEOUT_S)
        return found if isinstance(found, list) else []

    async def send(self, chat: int, text: str) -> None:
        """Send a text, as it is."""
        await self._call("sendMessage", {"chat_id": chat, "text": text})

    async def close(self) -> None:
        """Close the connections."""
        await self._egress.close()

    async def _call(self, method: str, asked: Mapping[str, object], *, timeout_s: float | None = None) -> Any:
        """The result. Raises `AuthFailedError`, `ApiRefusedError` and `UnclearAnswerError`."""
        body = json.dumps(asked).encode("ascii")
        headers = {"Content-Type": "application/json"}
        answer = await self._egress.post(f"{self._url}/{method}", headers, body, timeout_s=timeout_s)
        try:
            said = json.loads(answer.body)
        except ValueError as fault:
            raise UnclearAnswerError(f"Telegram answered HTTP {answer.status} without JSON") from fault
        if not isinstance(said, dict):
            raise UnclearAnswerError(f"Telegram answered HTTP {answer.status} with no JSON object")
        if said.get("ok") is True:
            return said.get("result")
        description = str(said.get("description", "no reason given")).replace(self._token, "(token)")[:300]
        code = said.get("error_code", answer.status)
        if code in (401, 404):
            # An unknown token is answered as an unknown address.
            raise AuthFailedError(f"Telegram answered {code}: {description}")
        if not isinstance(code, int) or code >= 500:
            raise UnclearAnswerError(f"Telegram answered {code}: {description}")
        raise ApiRefusedError(code, description, _retry_after(said))


def _retry_after(said: Mapping[str, Any]) -> timedelta | None:
    parameters = said.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if not isinstance(seconds, int) or seconds < 0:
        return None
    return min(timedelta(seconds=min(seconds, 86_400)), _WAIT_MAX)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
