"""What callers can ask about access rules."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from dorkos.clock import iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Success
from dorkos.relay import wire_rules as wire
from dorkos.relay.endpoints import pressure
from dorkos.relay.policy import Change, Rule
from dorkos.relay.rules import NewRule, StoredRule
from dorkos.relay.service import RelayService
from dorkos.relay.standing import Standing
from dorkos.vocabulary import Scope


async def _rules(relay: RelayService, _caller: Caller, _asked: Nothing) -> Sequence[wire.RuleView]:
    return [wire.RuleView.model_validate(_shown(each)) for each in await relay.access.standing()]


async def _add(relay: RelayService, caller: Caller, asked: wire.RuleInput) -> wire.AddedRule:
    new = NewRule(
        new_id(), asked.from_pattern, asked.to_pattern, asked.action, asked.priority, asked.description
    )
    added, against = await relay.access.add(caller, new)
    return wire.AddedRule.model_validate(_shown(added) | {"contradicts": [rule.id for rule in against]})


async def _remove(relay: RelayService, caller: Caller, asked: wire.RuleId) -> Success:
    await relay.access.remove(caller, asked.id)
    return Success()


async def _explain(relay: RelayService, caller: Caller, asked: wire.ExplainInput) -> wire.ExplainAnswer:
    sender = asked.sender or caller.subject
    if sender != caller.subject and not caller.may(Scope.OBSERVE):
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"{caller.subject} may not ask what {sender} may send.",
            hint="Leave `from` out to ask about yourself.",
        )
    found = await relay.access.explain(sender, asked.target)
    rule = found.decision.rule
    standing = await relay.standing(sender, asked.target)
    return wire.ExplainAnswer.model_validate(
        {
            "sender": found.sender,
            "target": found.target,
            "allowed": found.decision.allowed,
            "why": found.decision.why,
            "rule": None if rule is None else _deciding(rule),
            "changes": [_step(each) for each in found.changes],
            "limits": [
                {
                    "limit": each.limit,
                    "used": each.used,
                    "allowed": each.allowed,
                    "stops": each.stops,
                    "detail": each.detail,
                }
                for each in standing.limits
            ],
            "mailbox": _mailbox(standing, relay),
            "stopped": [
                {
                    "message_id": each.message.id,
                    "chain_id": each.message.chain_id,
                    "reason": each.reason,
                    "detail": each.detail,
                    "failed_at": iso(each.created_at),
                }
                for each in standing.stopped
            ],
        }
    )


def _mailbox(standing: Standing, relay: RelayService) -> dict[str, Any] | None:
    mailbox = standing.mailbox
    if mailbox is None:
        return None
    return {
        "is_open": mailbox.closed_at is None,
        "pending_count": mailbox.pending_count,
        "pressure": pressure(mailbox, relay.settings),
        "breaker": standing.circuit.state,
    }


def _deciding(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "from_pattern": rule.from_pattern,
        "to_pattern": rule.to_pattern,
        "action": rule.action,
        "priority": rule.priority,
    }


def _step(change: Change) -> wire.ChangeView:
    words = ["dorkos", "relay", "rules"]
    if change.removes is not None:
        words += ["remove", change.removes.id]
    if change.adds is not None:
        new = change.adds
        words += ["add", new.from_pattern, new.to_pattern, new.action, "--priority", str(new.priority)]
    return wire.ChangeView(command=shlex.join(words), allowed=change.then.allowed, why=change.then.why)


def _shown(each: StoredRule) -> dict[str, Any]:
    return _deciding(each.rule) | {
        "description": each.description,
        "managed_by": each.managed_by,
        "created_by": each.created_by,
        "created_at": iso(each.created_at),
        "fault": each.rule.fault,
    }


_FOR_A_PERSON = NoTool("Who may reach whom is for a person to decide; `relay_explain` tells an agent why.")

RULE_OPERATIONS: tuple[Operation[RelayService, Any, Any], ...] = (
    Operation(
        name="relay.rules",
        summary="List the access rules in the order in which they decide.",
        part="relay",
        method="GET",
        path="/api/relay/rules",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=list[wire.RuleView],
        handler=_rules,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.add_rule",
        summary="Add an access rule. It binds the next publish.",
        part="relay",
        method="POST",
        path="/api/relay/rules",
        scope=Scope.OPERATE,
        input=wire.RuleInput,
        answer=wire.AddedRule,
        handler=_add,
        status=201,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.remove_rule",
        summary="Remove an access rule that no registration made.",
        part="relay",
        method="DELETE",
        path="/api/relay/rules/{id}",
        scope=Scope.OPERATE,
        input=wire.RuleId,
        answer=Success,
        handler=_remove,
        mcp=_FOR_A_PERSON,
    ),
    Operation(
        name="relay.explain",
        summary="Whether one address may send to another: rules, limits, and what stopped on the way lately.",
        part="relay",
        method="GET",
        path="/api/relay/explain",
        scope=None,
        input=wire.ExplainInput,
        answer=wire.ExplainAnswer,
        handler=_explain,
        mcp=McpTool(
            "relay_explain",
            "Whether you may send to a subject, which rule decides, and what would change it.",
            read_only=True,
        ),
    ),
)
