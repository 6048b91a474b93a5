"""What callers can ask of dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, NoTool, Operation, Wire
from dorkos.relay import present, wire
from dorkos.relay import wire_letters as asked
from dorkos.relay.model import DeadLetter
from dorkos.relay.redrive import Redriven
from dorkos.relay.service import RelayService
from dorkos.relay.subjects import subject_hash
from dorkos.vocabulary import PublishOutcome, Scope


class DeadLetterList(Wire):
    """One page of messages that stopped."""

    dead_letters: list[asked.DeadLetterView]
    count: int


def _listed(_given: asked.DeadLettersInput, found: Sequence[asked.DeadLetterView]) -> DeadLetterList:
    return DeadLetterList(dead_letters=list(found), count=len(found))


async def _letters(
    relay: RelayService, _caller: Caller, query: asked.DeadLettersInput
) -> Sequence[asked.DeadLetterView]:
    which = query.filter(relay.now(), redriven=query.redriven, before=query.cursor)
    return [_shown(each) for each in await relay.letters.newest_first(which, limit=query.limit)]


async def _letter(relay: RelayService, _caller: Caller, query: asked.Letter) -> asked.DeadLetterView:
    return _shown(await relay.letters.get(query.id))


async def _redrive(relay: RelayService, caller: Caller, body: asked.Letter) -> asked.RedriveAnswer:
    return _outcome(await relay.letters.redrive(caller, body.id))


async def _redrive_all(
    relay: RelayService, caller: Caller, body: asked.RedriveAllInput
) -> asked.RedriveAllAnswer:
    done = await relay.letters.redrive_all(caller, body.filter(relay.now()), limit=body.limit)
    back = sum(1 for each in done if each.outcome is PublishOutcome.DELIVERED)
    return asked.RedriveAllAnswer(redriven=back, letters=[_outcome(each) for each in done])


async def _purge(relay: RelayService, caller: Caller, body: asked.Letter) -> asked.PurgeAnswer:
    return asked.PurgeAnswer(purged=(await relay.letters.purge(caller, body.id)).letters)


async def _purge_all(relay: RelayService, caller: Caller, body: asked.PurgeAllInput) -> asked.PurgeAnswer:
    which = body.filter(relay.now())
    return asked.PurgeAnswer(purged=await relay.letters.purge_all(caller, which, limit=body.limit))


def _outcome(done: Redriven) -> asked.RedriveAnswer:
    return asked.RedriveAnswer(
        id=done.letter.id, message_id=done.letter.message.id, outcome=done.outcome, detail=done.detail
    )


def _shown(value: DeadLetter) -> asked.DeadLetterView:
    return asked.DeadLetterView(
        id=value.id,
        message_id=value.message.id,
        endpoint_hash=subject_hash(value.endpoint_subject or value.message.subject),
        endpoint=value.endpoint_subject,
        reason=value.reason,
        detail=value.detail,
        failed_at=iso(value.created_at),
        redrive_count=value.redrive_count,
        redriven_at=wire.instant(value.redriven_at),
        redriven_by=value.redriven_by,
        envelope=present.message(value.message),
    )


_FOR_A_PERSON = NoTool("What stopped is looked at by a person before it is sent again or thrown away.")
_LETTERS = "/api/relay/dead-letters"

LETTER_OPERATIONS: tuple[Operation[RelayService, Any, Any], ...] = (
    Operation(
        name="relay.dead_letters",
        summary="List messages that stopped, newest first, each with its reason.",
        part="relay",
        method="GET",
        path=_LETTERS,
        scope=Scope.OBSERVE,
        input=asked.DeadLettersInput,
        answer=list[asked.DeadLetterView],
        handler=_letters,
        mcp=McpTool(
            "relay_list_dead_letters",
            "List messages that stopped, newest first, each with its reason.",
            read_only=True,
            answer=DeadLetterList,
            present=_listed,
        ),
    ),
    Operation(
        name="relay.dead_letter",
        summary="Show one message that stopped, and why.",
        part="relay",
        method="GET",
        path=f"{_LETTERS}/{{id}}",
        scope=Scope.OBSERVE,
        input=asked.Letter,
        answer=asked.DeadLetterView,
        handler=_letter,
        mcp=NoTool("`relay_list_dead_letters` shows them whole."),
    ),
    Operation(
        name="relay.redrive",
        summary="Put a dead letter back into its mailbox, with the same id; the rules decide anew.",
        part="relay",
        method="POST",
        path=f"{_LETTERS}/{{id}}/redrive",
        scope=Scope.OPERATE,
        input=asked.Letter,
        answer=asked.RedriveAnswer,
        handler=_redrive,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.redrive_all",
        summary="Put dead letters back into their mailboxes, the oldest first.",
        part="relay",
        method="POST",
        path=f"{_LETTERS}/redrive",
        scope=Scope.OPERATE,
        input=asked.RedriveAllInput,
        answer=asked.RedriveAllAnswer,
        handler=_redrive_all,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.purge",
        summary="Take a dead letter away for good.",
        part="relay",
        method="DELETE",
        path=f"{_LETTERS}/{{id}}",
        scope=Scope.OPERATE,
        input=asked.Letter,
        answer=asked.PurgeAnswer,
        handler=_purge,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.purge_all",
        summary="Take dead letters away for good, the oldest first.",
        part="relay",
        method="POST",
        path=f"{_LETTERS}/purge",
        scope=Scope.OPERATE,
        input=asked.PurgeAllInput,
        answer=asked.PurgeAnswer,
        handler=_purge_all,
        mcp=_FOR_A_PERSON,
    ),
)
