"""`POST /api/relay/webhooks/{adapterId}`: where other systems report. No token is needed, but a signature."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.adapters.service import AdapterService
from dorkos.relay.adapters.webhook_inbound import SignedRequest
from dorkos.relay.model import Receipt
from dorkos.server.address import path_values
from dorkos.server.answers import json_answer, to_bytes
from dorkos.server.auth import WEBHOOKS
from dorkos.server.body import read_bytes
from dorkos.server.rest import Endpoint

PATH = f"{WEBHOOKS}{{adapterId}}"
# Before its signature is verified nobody may make the server hold more than this.
_BODY_BYTES_MAX = 2 * 1024 * 1024


def webhook_endpoint(adapters: AdapterService, *, max_body_bytes: int) -> Endpoint:
    """What answers a webhook. A 2xx is given only for a message that reached a mailbox."""
    limit = min(max_body_bytes, _BODY_BYTES_MAX)

    async def answer(request: Request) -> Response:
        adapter_id = str(path_values(request.path_params)["adapterId"])
        body = await read_bytes(request, limit=limit)
        headers = {name.lower(): value for name, value in request.headers.items()}
        receipt = await adapters.webhooks.accept(adapter_id, SignedRequest(headers, body))
        shown = _shown(receipt)
        if not receipt.delivered_to:
            raise _not_delivered(receipt, shown)
        return json_answer(to_bytes({"ok": True, **shown}))

    return answer


def _shown(receipt: Receipt) -> dict[str, object]:
    return {
        "messageId": receipt.message_id,
        "deliveredTo": receipt.delivered_to,
        "recipients": [
            {"subject": each.subject, "outcome": each.outcome.value, "detail": each.detail}
            for each in receipt.recipients
        ],
    }


def _not_delivered(receipt: Receipt, shown: dict[str, object]) -> DorkError:
    why = "; ".join(each.detail or each.outcome.value for each in receipt.recipients)
    return DorkError(
        ErrorCode.NOT_DELIVERED,
        f"The message {receipt.message_id} reached no mailbox: {why}",
        hint="It is a dead letter: `dorkos relay dead-letters` shows it. Mend the reason before the next.",
        details=shown,
    )
