"""What callers can ask of Relay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.operation import NoTool, Operation, Success
from dorkos.relay import present, tools, wire
from dorkos.relay.breaker import CLOSED
from dorkos.relay.endpoints import MailboxLimits
from dorkos.relay.model import Envelope
from dorkos.relay.operations_letters import LETTER_OPERATIONS
from dorkos.relay.operations_requests import REQUEST_OPERATIONS
from dorkos.relay.operations_rules import RULE_OPERATIONS
from dorkos.relay.operations_trace import TRACE_OPERATIONS
from dorkos.relay.service import RelayService
from dorkos.vocabulary import Scope


async def publish(relay: RelayService, caller: Caller, body: wire.PublishInput) -> wire.PublishAnswer:
    """Send one message. The answer is 200 whatever became of it: read `recipients`."""
    envelope = Envelope(
        id=new_id(),
        subject=body.subject,
        payload=wire.payload_text(body.payload),
        claimed_sender=body.sender,
        reply_to=body.reply_to,
        max_hops=body.budget.max_hops,
        calls=body.budget.call_budget_remaining,
        expires_at=body.budget.expires_at(),
        key=body.idempotency_key,
        traceparent=body.traceparent,
    )
    return present.receipt(await relay.publish(caller, envelope))


async def messages(relay: RelayService, _caller: Caller, query: wire.MessagesInput) -> wire.MessagesAnswer:
    """One page of messages; one more is read to know whether there is a next page."""
    found = await relay.messages(
        subject=query.subject,
        sender=query.sender,
        status=wire.status_of(query.status),
        before=wire.page_cursor(query.cursor),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    return wire.MessagesAnswer(
        messages=[present.stored_message(each) for each in page],
        next_cursor=page[-1].message.id if len(found) > len(page) else None,
    )


async def message(relay: RelayService, _caller: Caller, query: wire.MessageInput) -> wire.StoredMessageView:
    """One message with its deliveries."""
    return present.stored_message(await relay.message(query.id))


async def messages_of(relay: RelayService, ids: Sequence[str]) -> dict[str, wire.StoredMessageView]:
    """Messages by their ids, each with its deliveries; those that are gone are left out."""
    return {each.message.id: present.stored_message(each) for each in await relay.messages_of(ids)}


async def endpoints(
    relay: RelayService, _caller: Caller, query: wire.EndpointsInput
) -> Sequence[wire.EndpointView]:
    """The mailboxes."""
    found = await relay.endpoints(include_closed=query.include_closed)
    circuits = await relay.circuits()
    return [present.endpoint(each, circuits.get(each.id, CLOSED), relay.settings) for each in found]


async def open_endpoint(relay: RelayService, caller: Caller, body: wire.OpenInput) -> wire.EndpointView:
    """A new mailbox, or a closed one opened again."""
    limits = MailboxLimits(body.max_pending, body.max_pending_bytes)
    opened = await relay.open(caller, body.subject, description=body.description, limits=limits)
    return present.endpoint(opened, CLOSED, relay.settings)


async def close_endpoint(relay: RelayService, caller: Caller, body: wire.MailboxInput) -> Success:
    """Close a mailbox; its history stays."""
    await relay.close(caller, body.subject)
    return Success()


async def close_circuit(relay: RelayService, caller: Caller, body: wire.MailboxInput) -> Success:
    """Let a mailbox take messages again."""
    await relay.close_circuit(caller, body.subject)
    return Success()


async def inbox(relay: RelayService, caller: Caller, query: wire.InboxInput) -> wire.InboxAnswer:
    """One page of a mailbox."""
    found = await relay.inbox(
        caller,
        query.subject,
        status=wire.status_of(query.status),
        before=wire.page_cursor(query.cursor),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    now = relay.now()
    return wire.InboxAnswer(
        messages=[present.inbox_entry(each, now) for each in page],
        next_cursor=page[-1].id if len(found) > len(page) else None,
    )


async def claim(relay: RelayService, caller: Caller, body: wire.ClaimInput) -> wire.ClaimAnswer:
    """Take messages under a lease."""
    taken = await relay.claim(
        caller, body.subject, limit=body.limit, lease_s=body.lease_seconds, wait_ms=body.wait_ms
    )
    return wire.ClaimAnswer(deliveries=[present.claimed(each) for each in taken.deliveries])


async def ack(relay: RelayService, caller: Caller, body: wire.AckInput) -> Success:
    """Settle a claimed message as delivered."""
    await relay.ack(caller, body.subject, body.message_id, body.lease_token)
    return Success()


async def nack(relay: RelayService, caller: Caller, body: wire.NackInput) -> wire.NackAnswer:
    """Give a claimed message back, or reject it."""
    status = await relay.nack(
        caller,
        body.subject,
        body.message_id,
        body.lease_token,
        delay=timedelta(milliseconds=body.delay_ms),
        reject=body.reject,
    )
    return wire.NackAnswer(status=status)


async def extend(relay: RelayService, caller: Caller, body: wire.ExtendInput) -> wire.ExtendAnswer:
    """Hold a claimed message longer."""
    until = await relay.extend(caller, body.subject, body.message_id, body.lease_token, body.lease_seconds)
    return wire.ExtendAnswer(lease_expires_at=iso(until))


async def search(relay: RelayService, _caller: Caller, query: wire.SearchInput) -> wire.MessagesAnswer:
    """One page of messages that have the words."""
    before = wire.page_cursor(query.cursor)
    found = await relay.search(query.text, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    return wire.MessagesAnswer(
        messages=[present.stored_message(each) for each in page],
        next_cursor=page[-1].message.id if len(found) > len(page) else None,
    )


_MAILBOX = "/api/relay/endpoints/{subject}"

OPERATIONS: tuple[Operation[RelayService, Any, Any], ...] = (
    Operation(
        name="relay.publish",
        summary="Send a message to one subject. The receipt says what became of it.",
        part="relay",
        method="POST",
        path="/api/relay/messages",
        scope=Scope.SEND,
        input=wire.PublishInput,
        answer=wire.PublishAnswer,
        handler=publish,
        mcp=tools.SEND,
    ),
    Operation(
        name="relay.messages",
        summary="List messages, newest first.",
        part="relay",
        method="GET",
        path="/api/relay/messages",
        scope=Scope.OBSERVE,
        input=wire.MessagesInput,
        answer=wire.MessagesAnswer,
        handler=messages,
        mcp=tools.MESSAGES,
    ),
    Operation(
        name="relay.message",
        summary="Show one message with its deliveries.",
        part="relay",
        method="GET",
        path="/api/relay/messages/{id}",
        scope=Scope.OBSERVE,
        input=wire.MessageInput,
        answer=wire.StoredMessageView,
        handler=message,
        mcp=tools.MESSAGE,
    ),
    Operation(
        name="relay.search",
        summary="Find messages by words of their text, newest first, from a moment after they came.",
        part="relay",
        method="GET",
        path="/api/relay/search",
        scope=Scope.OBSERVE,
        input=wire.SearchInput,
        answer=wire.MessagesAnswer,
        handler=search,
        mcp=tools.SEARCH,
    ),
    Operation(
        name="relay.endpoints",
        summary="List the mailboxes, newest first.",
        part="relay",
        method="GET",
        path="/api/relay/endpoints",
        scope=Scope.OBSERVE,
        input=wire.EndpointsInput,
        answer=list[wire.EndpointView],
        handler=endpoints,
        mcp=tools.ENDPOINTS,
    ),
    Operation(
        name="relay.open",
        summary="Open a mailbox that somebody claims from. An agent's is opened by registering the agent.",
        part="relay",
        method="POST",
        path="/api/relay/endpoints",
        scope=Scope.OPERATE,
        input=wire.OpenInput,
        answer=wire.EndpointView,
        handler=open_endpoint,
        mcp=tools.REGISTER_ENDPOINT,
        status=201,
    ),
    Operation(
        name="relay.close",
        summary="Close a mailbox. What waits in it becomes dead letters; its history stays readable.",
        part="relay",
        method="DELETE",
        path=_MAILBOX,
        scope=Scope.OPERATE,
        input=wire.MailboxInput,
        answer=Success,
        handler=close_endpoint,
        mcp=tools.UNREGISTER_ENDPOINT,
    ),
    Operation(
        name="relay.close_circuit",
        summary="Close the open circuit of a mailbox by hand: it takes messages again at once.",
        part="relay",
        method="POST",
        path=f"{_MAILBOX}/close-circuit",
        scope=Scope.OPERATE,
        input=wire.MailboxInput,
        answer=Success,
        handler=close_circuit,
        mcp=NoTool("Whether what failed is mended is for a person to say; it closes by itself as well."),
    ),
    Operation(
        name="relay.inbox",
        summary="Look into a mailbox, newest first. Looking consumes nothing.",
        part="relay",
        method="GET",
        path=f"{_MAILBOX}/inbox",
        scope=Scope.RECEIVE,
        input=wire.InboxInput,
        answer=wire.InboxAnswer,
        handler=inbox,
        mcp=tools.INBOX,
    ),
    Operation(
        name="relay.claim",
        summary="Take the longest waiting messages of a mailbox under a lease.",
        part="relay",
        method="POST",
        path=f"{_MAILBOX}/claim",
        scope=Scope.RECEIVE,
        input=wire.ClaimInput,
        answer=wire.ClaimAnswer,
        handler=claim,
        mcp=tools.CLAIM,
        waits=True,
    ),
    Operation(
        name="relay.ack",
        summary="Acknowledge a claimed message: it is delivered, for good.",
        part="relay",
        method="POST",
        path=f"{_MAILBOX}/ack",
        scope=Scope.RECEIVE,
        input=wire.AckInput,
        answer=Success,
        handler=ack,
        mcp=tools.ACK,
    ),
    Operation(
        name="relay.nack",
        summary="Give a claimed message back, to be tried again or rejected.",
        part="relay",
        method="POST",
        path=f"{_MAILBOX}/nack",
        scope=Scope.RECEIVE,
        input=wire.NackInput,
        answer=wire.NackAnswer,
        handler=nack,
        mcp=tools.NACK,
    ),
    Operation(
        name="relay.extend",
        summary="Hold a claimed message longer.",
        part="relay",
        method="POST",
        path=f"{_MAILBOX}/extend",
        scope=Scope.RECEIVE,
        input=wire.ExtendInput,
        answer=wire.ExtendAnswer,
        handler=extend,
        mcp=tools.EXTEND,
    ),
    *LETTER_OPERATIONS,
    *REQUEST_OPERATIONS,
    *TRACE_OPERATIONS,
    *RULE_OPERATIONS,
)
