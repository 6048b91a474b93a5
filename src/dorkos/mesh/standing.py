"""Where an agent stands: in use, denied, or with its folder away. One place decides and stores it."""

from __future__ import annotations

from datetime import datetime, timedelta

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.ids import new_id
from dorkos.mesh import store
from dorkos.mesh.model import Agent, Mailboxes
from dorkos.vocabulary import AgentStatus


def standing(
    *, denied: bool, unreachable_since: datetime | None, now: datetime, archive_after: timedelta
) -> AgentStatus:
    """The status that follows from the facts. A denial wins over everything; nothing here deletes."""
    if denied:
        return AgentStatus.INACTIVE
    if unreachable_since is None:
        return AgentStatus.ACTIVE
    if now - unreachable_since >= archive_after:
        return AgentStatus.ARCHIVED
    return AgentStatus.UNREACHABLE


def put(
    tx: Transaction,
    agent: Agent,
    status: AgentStatus,
    unreachable_since: datetime | None,
    *,
    mailboxes: Mailboxes,
    reason: str,
    actor: str | None,
) -> bool:
    """Store a new status with its event, and let messages start runs only while the agent is in use.

    What arrives meanwhile stays in the mailbox, until its own expiry: the agent finds it when it is back.
    False, with nothing changed, if there is nothing to change or somebody else was faster.
    """
    if (agent.status, agent.unreachable_since) == (status, unreachable_since):
        return False
    if not store.set_status(tx, agent, status, unreachable_since):
        return False
    if agent.status is status:
        return True
    after = store.agent_by_id(tx, agent.id)
    if after is None:
        return False
    mailboxes.open_mailbox(
        tx,
        endpoint_id=new_id(),
        subject=after.subject,
        agent_id=after.id,
        starts_runs=after.starts_runs,
    )
    tx.emit(
        "mesh.agent.status_changed",
        agent.id,
        {
            "name": agent.name,
            "from": agent.status.value,
            "to": status.value,
            "reason": reason,
            "projectPath": str(agent.project_path),
            "unreachableSince": None if unreachable_since is None else iso(unreachable_since),
        },
        actor=actor,
    )
    return True
