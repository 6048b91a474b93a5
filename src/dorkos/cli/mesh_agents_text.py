"""How what is known of one agent reads to a person."""

from __future__ import annotations

import json
from typing import Any

from dorkos.cli.instants import duration, zoned_time
from dorkos.cli.render import notice, preview, print_facts, say, say_pieces, state_style


def inspected(found: Any) -> None:
    """All about one agent."""
    agent, health, manifest = found["agent"], found["health"], found["manifest"]
    say_pieces((f"{agent['name']} ", "bold"), (health["state"], state_style(health["state"])))
    for reason in health["reasons"]:
        say(f"  {reason['detail']}")
    denial = found["denial"]
    print_facts(
        (
            ("id", agent["id"]),
            ("mailbox", found["relaySubject"]),
            ("path", agent["projectPath"]),
            ("host", agent["host"]),
            ("runtime", agent["runtime"]),
            ("program", " ".join(agent["entrypoint"]) if agent["entrypoint"] else None),
            ("description", preview(agent["description"]) or None),
            ("capabilities", ", ".join(agent["capabilities"]) or None),
            ("messages", agent["behavior"]["responseMode"]),
            ("calls", f"{found['calls']['used']} of {found['calls']['allowed']} in the last hour"),
            ("hops", f"at most {found['maxHopsPerMessage']} in a chain"),
            ("schedules", str(found["schedules"])),
            ("last seen", _when(agent["lastSeenAt"], agent["lastSeenEvent"])),
            ("next turn", zoned_time(health["nextDueAt"]) or None),
            ("registered", f"{zoned_time(agent['registeredAt'])} by {agent['registeredBy']}"),
            ("denied", None if denial is None else _denied(denial)),
            ("manifest", manifest["detail"] or manifest["state"]),
        )
    )
    if manifest["waiting"]:
        waiting = ", ".join(f"{key} = {json.dumps(value)}" for key, value in manifest["waiting"].items())
        notice(
            f"Its manifest was edited, and this waits until you register it again: {waiting}\n"
            f"  dorkos mesh register {agent['projectPath']}"
        )
    for path in found["duplicates"]:
        notice(f"{path} claims to be this agent as well. It is not run.")


def updated(agent: Any) -> None:
    """An agent that was just changed."""
    say(f"Changed {agent['name']}.", "green")
    if not agent["manifestWritten"]:
        notice(f"Changed, but its manifest could not be written: {agent['manifestProblem']}")


def token(made: Any) -> None:
    """A token that was just made: on standard output alone, so that it can be taken from there."""
    notice(f"It speaks as {made['subject']}, and is not shown again:")
    say(made["token"])


def pinged(answer: Any) -> None:
    """Whether an agent answered."""
    took = duration(answer["durationMs"])
    if answer["answered"]:
        say_pieces(
            (f"{answer['name']} answered", "green"), (f" after {took}: {preview(answer['reply'])}", "")
        )
        return
    say(f"{answer['name']} did not answer within {took}. {answer['detail']}", "red")
    say(f"  the message: dorkos relay messages, {answer['messageId']}")


def _when(at: str | None, event: str | None) -> str | None:
    return None if at is None else f"{zoned_time(at)}, {event}"


def _denied(denial: Any) -> str:
    reason = f": {denial['reason']}" if denial["reason"] else ""
    return f"{denial['path']}, by {denial['deniedBy']}{reason}"
