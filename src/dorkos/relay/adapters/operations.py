"""What callers can ask of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Success
from dorkos.relay.adapters import wire
from dorkos.relay.adapters.mailbox_import import OldMail
from dorkos.relay.adapters.service import AdapterService
from dorkos.relay.wire import payload_text
from dorkos.vocabulary import Scope

_ADAPTERS = "/api/relay/adapters"
_ONE = f"{_ADAPTERS}/{{id}}"
_FOR_A_PERSON = NoTool("Connections to the outside, with their secrets, are made and changed by a person.")


async def _every(adapters: AdapterService, _caller: Caller, _asked: Nothing) -> Sequence[wire.AdapterView]:
    return [wire.view(*each) for each in await adapters.every()]


async def _get(adapters: AdapterService, _caller: Caller, asked: wire.OneAdapter) -> wire.AdapterView:
    return wire.view(*await adapters.get(asked.id))


async def _add(adapters: AdapterService, caller: Caller, asked: wire.AddInput) -> wire.AdapterView:
    made = await adapters.add(caller, asked.id, asked.type, asked.config, enabled=asked.enabled)
    return wire.view(*made)


async def _update(adapters: AdapterService, caller: Caller, asked: wire.UpdateInput) -> wire.AdapterView:
    return wire.view(*await adapters.update(caller, asked.id, asked.config))


async def _remove(adapters: AdapterService, caller: Caller, asked: wire.OneAdapter) -> Success:
    await adapters.remove(caller, asked.id)
    return Success()


async def _enable(adapters: AdapterService, caller: Caller, asked: wire.OneAdapter) -> wire.Done:
    await adapters.switch(caller, asked.id, on=True)
    return wire.Done()


async def _disable(adapters: AdapterService, caller: Caller, asked: wire.OneAdapter) -> wire.Done:
    await adapters.switch(caller, asked.id, on=False)
    return wire.Done()


async def _reload(adapters: AdapterService, caller: Caller, _asked: Nothing) -> wire.Reloaded:
    return wire.Reloaded(adapter_count=await adapters.reload(caller))


async def _test(adapters: AdapterService, _caller: Caller, asked: wire.OneAdapter) -> wire.TrialAnswer:
    trial = await adapters.test(asked.id)
    return wire.TrialAnswer(ok=trial.ok, detail=trial.detail)


async def _import(adapters: AdapterService, _caller: Caller, asked: wire.ImportInput) -> wire.ImportAnswer:
    mail: list[OldMail] = []
    refused: list[wire.Refused] = []
    for each in asked.messages:
        try:
            mail.append(_old_mail(each))
        except DorkError as refusal:  # What cannot be a payload does not keep the others out.
            refused.append(wire.Refused(name=each.name, reason=refusal.message))
    report = await adapters.mailboxes.bring(asked.subject, mail)
    refused += [wire.Refused(name=name, reason=reason) for name, reason in report.refused]
    return wire.ImportAnswer(imported=report.imported, present=report.present, refused=refused)


def _old_mail(each: wire.OldMailInput) -> OldMail:
    return OldMail(
        name=each.name,
        status=each.status,
        payload=payload_text(each.payload),
        id=each.id,
        sender=each.sender,
        reply_to=each.reply_to,
        created_at=each.created_at,
        ttl_ms=each.ttl,
        reason=each.reason,
    )


def _listed(_asked: Nothing, found: Sequence[wire.AdapterView]) -> wire.AdapterList:
    return wire.AdapterList(adapters=list(found), count=len(found))


def _switched(action: str) -> Any:
    return lambda asked, _done: wire.Switched(id=asked.id, action=action)


OPERATIONS: tuple[Operation[AdapterService, Any, Any], ...] = (
    Operation(
        name="relay.adapters",
        summary="List the adapters and how each is doing.",
        part="adapters",
        method="GET",
        path=_ADAPTERS,
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=list[wire.AdapterView],
        handler=_every,
        mcp=McpTool(
            "relay_list_adapters",
            "Connections to the outside, such as webhooks and chats, and how each is doing.",
            read_only=True,
            answer=wire.AdapterList,
            present=_listed,
        ),
    ),
    Operation(
        name="relay.adapter",
        summary="Show one adapter and how it is doing.",
        part="adapters",
        method="GET",
        path=_ONE,
        scope=Scope.OBSERVE,
        input=wire.OneAdapter,
        answer=wire.AdapterView,
        handler=_get,
        mcp=NoTool("`relay_list_adapters` shows each."),
    ),
    Operation(
        name="relay.add_adapter",
        summary="Add an adapter. It starts in the background if it is enabled.",
        part="adapters",
        method="POST",
        path=_ADAPTERS,
        scope=Scope.OPERATE,
        input=wire.AddInput,
        answer=wire.AdapterView,
        handler=_add,
        status=201,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.update_adapter",
        summary="Change settings of an adapter; it starts anew with them.",
        part="adapters",
        method="PATCH",
        path=_ONE,
        scope=Scope.OPERATE,
        input=wire.UpdateInput,
        answer=wire.AdapterView,
        handler=_update,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.remove_adapter",
        summary="Remove an adapter; what waits in its mailbox becomes dead letters.",
        part="adapters",
        method="DELETE",
        path=_ONE,
        scope=Scope.OPERATE,
        input=wire.OneAdapter,
        answer=Success,
        handler=_remove,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.enable_adapter",
        summary="Switch an adapter on, or try again one that had failed.",
        part="adapters",
        method="POST",
        path=f"{_ONE}/enable",
        scope=Scope.OPERATE,
        input=wire.OneAdapter,
        answer=wire.Done,
        handler=_enable,
        mcp=McpTool(
            "relay_enable_adapter",
            "Switch an adapter on.",
            idempotent=True,
            open_world=True,
            answer=wire.Switched,
            present=_switched("enabled"),
        ),
    ),
    Operation(
        name="relay.disable_adapter",
        summary="Switch an adapter off; what waits in its mailbox goes on waiting.",
        part="adapters",
        method="POST",
        path=f"{_ONE}/disable",
        scope=Scope.OPERATE,
        input=wire.OneAdapter,
        answer=wire.Done,
        handler=_disable,
        mcp=McpTool(
            "relay_disable_adapter",
            "Switch an adapter off.",
            idempotent=True,
            answer=wire.Switched,
            present=_switched("disabled"),
        ),
    ),
    Operation(
        name="relay.reload_adapters",
        summary="Start every adapter anew that is switched on.",
        part="adapters",
        method="POST",
        path=f"{_ADAPTERS}/reload",
        scope=Scope.OPERATE,
        input=Nothing,
        answer=wire.Reloaded,
        handler=_reload,
        mcp=McpTool("relay_reload_adapters", "Start all adapters anew.", idempotent=True, open_world=True),
    ),
    Operation(
        name="relay.test_adapter",
        summary="Try an adapter once and say what came of it.",
        part="adapters",
        method="POST",
        path=f"{_ONE}/test",
        scope=Scope.OPERATE,
        input=wire.OneAdapter,
        answer=wire.TrialAnswer,
        handler=_test,
        waits=True,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.import_mail",
        summary="Bring messages from files into a mailbox; those that are there stay as they are.",
        part="adapters",
        method="POST",
        path="/api/relay/endpoints/{subject}/import",
        scope=Scope.OPERATE,
        input=wire.ImportInput,
        answer=wire.ImportAnswer,
        handler=_import,
        mcp=NoTool("Whole mailboxes are brought over by a person."),
    ),
)
