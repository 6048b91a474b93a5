"""What callers can ask of requests and replies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.operation import McpTool, NoTool, Operation
from dorkos.relay import present, wire
from dorkos.relay import wire_requests as asked
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.request import Request
from dorkos.relay.service import RelayService
from dorkos.vocabulary import Scope


async def _request(relay: RelayService, caller: Caller, body: asked.RequestInput) -> asked.RequestAnswer:
    envelope = Envelope(
        id=new_id(),
        subject=body.subject,
        payload=wire.payload_text(body.payload),
        claimed_sender=body.sender,
        max_hops=body.budget.max_hops,
        calls=body.budget.call_budget_remaining,
        expires_at=body.budget.expires_at(),
        key=body.idempotency_key,
    )
    within = timedelta(seconds=body.timeout_seconds or relay.settings.request_timeout_seconds)
    receipt, found = await relay.conversations.ask(caller, envelope, within=within, wait_ms=body.wait_ms)
    return _answer(found, receipt)


def _asked(given: asked.RequestArguments) -> asked.RequestInput:
    return asked.RequestInput.model_validate(given.model_dump())


async def _look(relay: RelayService, caller: Caller, query: asked.RequestId) -> asked.RequestAnswer:
    return _answer(await relay.conversations.look(caller, query.id))


async def _await(relay: RelayService, caller: Caller, body: asked.AwaitInput) -> asked.RequestAnswer:
    return _answer(await relay.conversations.wait(caller, body.id, wait_ms=body.wait_ms))


async def _reply(relay: RelayService, caller: Caller, body: asked.ReplyInput) -> wire.PublishAnswer:
    answer = Envelope(
        id=new_id(),
        subject="",
        payload=wire.payload_text(body.payload),
        claimed_sender=body.sender,
        key=body.idempotency_key,
    )
    return present.receipt(await relay.conversations.reply(caller, body.id, answer))


def _answer(found: Request, receipt: Receipt | None = None) -> asked.RequestAnswer:
    return asked.RequestAnswer(
        request_id=found.message.id,
        state=found.state,
        deadline=wire.instant(found.message.expires_at),
        reply=None if found.reply is None else present.message(found.reply),
        detail=found.detail,
        chain_id=found.message.chain_id,
        recipients=None if receipt is None else present.recipients(receipt),
        duplicate=True if receipt is not None and receipt.duplicate else None,
    )


REQUEST_OPERATIONS: tuple[Operation[RelayService, Any, Any], ...] = (
    Operation(
        name="relay.request",
        summary="Send a message that is to be answered, and wait for the reply for a while.",
        part="relay",
        method="POST",
        path="/api/relay/requests",
        scope=Scope.SEND,
        input=asked.RequestInput,
        answer=asked.RequestAnswer,
        handler=_request,
        mcp=McpTool(
            "relay_request",
            "Ask somebody something, and wait for the reply. While it is pending, use relay_await_reply.",
            open_world=True,
            input=asked.RequestArguments,
            ask=_asked,
        ),
        waits=True,
        live=True,
    ),
    Operation(
        name="relay.request_state",
        summary="Where a request stands, with its reply. Looking settles nothing.",
        part="relay",
        method="GET",
        path="/api/relay/requests/{id}",
        scope=Scope.SEND,
        input=asked.RequestId,
        answer=asked.RequestAnswer,
        handler=_look,
        mcp=NoTool("`relay_await_reply` tells the same and waits."),
    ),
    Operation(
        name="relay.await_reply",
        summary="Wait for the reply to a request of your own. The reply is delivered by reading it here.",
        part="relay",
        method="POST",
        path="/api/relay/requests/{id}/await",
        scope=Scope.SEND,
        input=asked.AwaitInput,
        answer=asked.RequestAnswer,
        handler=_await,
        mcp=McpTool("relay_await_reply", "Wait for the reply to a request of yours; tells where it stands."),
        waits=True,
    ),
    Operation(
        name="relay.reply",
        summary="Answer a message that came to you, where its sender wants the answer.",
        part="relay",
        method="POST",
        path="/api/relay/messages/{id}/reply",
        scope=Scope.SEND,
        input=asked.ReplyInput,
        answer=wire.PublishAnswer,
        handler=_reply,
        mcp=McpTool(
            "relay_reply",
            "Answer a message that came to you, where its sender wants the answer.",
            open_world=True,
        ),
    ),
)
