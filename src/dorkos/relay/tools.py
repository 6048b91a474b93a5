"""Relay as agents call it: the lineage's tools by name and shape, and those that it lacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from dorkos.operation import McpTool, Wire
from dorkos.relay import wire


class InboxArguments(Wire):
    """A mailbox to look into."""

    endpoint_subject: Annotated[str, Field(alias="endpoint_subject", description="The mailbox's subject.")]
    limit: wire.Limit = 50
    status: wire.StatusFilter | None = None
    cursor: wire.PageCursor = None


class EndpointList(Wire):
    """The mailboxes."""

    endpoints: list[wire.EndpointView]
    count: int


class RegisteredEndpoint(Wire):
    """A mailbox that was opened."""

    endpoint: wire.EndpointView
    note: str


def _inbox(given: InboxArguments) -> wire.InboxInput:
    return wire.InboxInput(
        subject=given.endpoint_subject, limit=given.limit, status=given.status, cursor=given.cursor
    )


def _endpoints(_given: wire.EndpointsInput, found: Sequence[wire.EndpointView]) -> EndpointList:
    return EndpointList(endpoints=list(found), count=len(found))


def _registered(given: wire.OpenInput, opened: wire.EndpointView) -> RegisteredEndpoint:
    return RegisteredEndpoint(endpoint=opened, note=given.description or "Endpoint registered")


SEND = McpTool(
    "relay_send",
    "Send a message to one subject. `recipients` of the answer says where it was stored.",
    open_world=True,
)
MESSAGES = McpTool("relay_list_messages", "List messages, newest first.", read_only=True)
MESSAGE = McpTool("relay_get_message", "Show one message and where it was delivered.", read_only=True)
SEARCH = McpTool("relay_search", "Find messages by words of their text, newest first.", read_only=True)
INBOX = McpTool(
    "relay_inbox",
    "Look into a mailbox, newest first, with bodies. Looking takes nothing: use relay_claim to take.",
    read_only=True,
    input=InboxArguments,
    ask=_inbox,
)
ENDPOINTS = McpTool(
    "relay_list_endpoints",
    "List the mailboxes that messages can be sent to.",
    read_only=True,
    answer=EndpointList,
    present=_endpoints,
)
REGISTER_ENDPOINT = McpTool(
    "relay_register_endpoint",
    "Open a mailbox. An agent's own is opened by registering the agent.",
    answer=RegisteredEndpoint,
    present=_registered,
)
UNREGISTER_ENDPOINT = McpTool(
    "relay_unregister_endpoint",
    "Close a mailbox. What waits in it becomes dead letters; its history stays.",
    destructive=True,
)
CLAIM = McpTool(
    "relay_claim",
    "Take the longest waiting messages of a mailbox under a lease; acknowledge each with relay_ack.",
)
ACK = McpTool("relay_ack", "Acknowledge a claimed message: it is done.", idempotent=True)
NACK = McpTool("relay_nack", "Give a claimed message back to be tried again, or reject it as a dead letter.")
EXTEND = McpTool("relay_extend", "Hold a claimed message longer.")
