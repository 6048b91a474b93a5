"""Whether an agent really answers: a question to its mailbox, and the reply to it."""

from __future__ import annotations

from dataclasses import dataclass

from dorkos.clock import Clock
from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.mesh.model import Agent, Questions
from dorkos.vocabulary import AgentStatus

_WORDS = (
    "This is a ping from DorkOS, to see whether you answer. Do no work for it. "
    "Send a short reply to the subject in DORKOS_REPLY_TO, such as: "
    'dorkos relay send "$DORKOS_REPLY_TO" pong'
)


@dataclass(frozen=True, slots=True)
class Ping:
    """What came of a ping. `payload` is the reply as JSON text; without one, `detail` says how far it got."""

    agent: Agent
    message_id: str
    answered: bool
    payload: str | None
    detail: str | None
    duration_ms: int


async def ping(questions: Questions, clock: Clock, caller: Caller, agent: Agent, *, within_s: float) -> Ping:
    """Ask the agent and wait for its own reply. A run of it starts if messages start its runs: this is the
    whole way, and costs what a message to it costs. Raises `conflict` for an agent that is not in use.
    """
    if agent.status is not AgentStatus.ACTIVE:
        raise DorkError(
            ErrorCode.CONFLICT,
            f"The agent {agent.name!r} is {agent.status}: it would not answer.",
            hint="`dorkos mesh inspect` says why.",
        )
    began = clock.monotonic()
    payload = to_json({"type": "ping", "content": _WORDS})
    reply = await questions.ask(caller, subject=agent.subject, payload=payload, within_s=within_s)
    return Ping(
        agent,
        reply.message_id,
        reply.answered,
        reply.payload,
        reply.detail,
        round((clock.monotonic() - began) * 1000),
    )
