"""What a claimed run starts: the runtime, the program and the directory, or why it cannot be started."""

from __future__ import annotations

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.tokens import NewToken
from dorkos.pulse.model import AgentTarget, Claim, Outcome, Run, ScheduleDraft
from dorkos.runtimes.catalog import Drive, RuntimeCatalog
from dorkos.vocabulary import RunReason, RunState

# They start the program that is named to them, and nothing by themselves.
_OF_PROGRAMS = ("command", "acp")


def claim_of(
    run: Run, lease_token: str, token: NewToken, agent: AgentTarget | None, runtimes: RuntimeCatalog
) -> Claim:
    """The run as this server holds it. A run names a program, an agent, a subject, or a runtime alone."""
    if run.target_subject is not None:
        return _claim(run, lease_token, token, Drive("command"))
    if agent is None:
        if run.command is None and run.runtime is None:
            return _obstacle(
                run,
                lease_token,
                token,
                RunReason.TARGET_REMOVED,
                "The agent of this run is no longer registered.",
            )
        return _claim(run, lease_token, token, Drive(run.runtime or "command", run.command or ()))
    drive = drive_of(agent, runtimes, wanted=run.runtime)
    if drive is None:
        return _obstacle(run, lease_token, token, RunReason.START_FAILED, why_undriven(agent))
    return _claim(run, lease_token, token, drive, agent)


def check_target(draft: ScheduleDraft, runtimes: RuntimeCatalog) -> None:
    """Raise `validation_failed` unless a schedule says what to run: an agent, a program, a subject to ask, or
    a runtime alone.

    A runtime may be named with the first two as well: it is used instead of the agent's own, and drives the
    program by its protocol.
    """
    if draft.runtime is not None:
        runtimes.named(draft.runtime)
    if draft.target_subject is not None and (draft.runtime or draft.cwd):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "A schedule that asks a subject (`targetSubject`) starts nothing here: it takes no `runtime` and"
            " no `cwd`.",
            hint="Leave both out: who answers decides how.",
        )
    if draft.command is not None and draft.runtime not in (None, *_OF_PROGRAMS):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The runtime {draft.runtime!r} starts no program of yours, so `command` means nothing to it.",
            hint="Leave out `command` or `runtime`, or name `acp` for a program that speaks that protocol.",
        )
    alone = draft.runtime is not None and draft.runtime not in _OF_PROGRAMS
    named = sum(target is not None for target in (draft.agent_id, draft.command, draft.target_subject))
    if named > 1 or (named == 0 and not alone):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "A schedule runs either an agent (`agentId`) or a program (`command`), or a runtime (`runtime`)"
            " by itself, or asks a subject (`targetSubject`): name exactly one.",
            hint='A program is an array, such as ["python", "report.py"].',
        )


def drive_of(agent: AgentTarget, runtimes: RuntimeCatalog, *, wanted: str | None) -> Drive | None:
    """What takes the turns of an agent; None if nothing does. `wanted` is what a schedule names instead."""
    return runtimes.drive_of(agent.kind, agent.entrypoint, wanted=wanted)


def why_undriven(agent: AgentTarget) -> str:
    """Why nothing takes the turns of an agent, in words."""
    return (
        f"The agent {agent.name} has no entrypoint: its manifest names no program that takes its turns,"
        f" and nothing else drives an agent of the runtime {agent.kind.value!r}."
    )


def _claim(
    run: Run, lease_token: str, token: NewToken, drive: Drive, agent: AgentTarget | None = None
) -> Claim:
    home = None if agent is None else str(agent.project_path)
    return Claim(
        run,
        lease_token,
        token,
        drive.argv,
        run.cwd or home,
        runtime=drive.runtime,
        persona=None if agent is None else agent.persona,
        resume=run.session_id if run.resumed_from is not None else None,
    )


def _obstacle(run: Run, lease_token: str, token: NewToken, reason: RunReason, why: str) -> Claim:
    return Claim(run, lease_token, token, (), run.cwd, Outcome(RunState.FAILED, reason, why))
