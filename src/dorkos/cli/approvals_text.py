"""How approvals read to a person."""

from __future__ import annotations

import shlex
from typing import Any

from dorkos.cli.instants import local_time, zone_label, zoned_time
from dorkos.cli.render import Column, preview, print_facts, print_table, raw, say

_HASH_LENGTH = 12


def approvals(rows: Any) -> None:
    """Questions in a table."""
    print_table(
        rows,
        (
            Column("id", lambda row: row["id"]),
            Column("kind", lambda row: row["kind"]),
            Column("what", _what, shrinks=True),
            Column("by", lambda row: row["proposedBy"] or "-", shrinks=True),
            Column("why", lambda row: preview(row["reason"] or ""), shrinks=True),
            Column("state", lambda row: row["status"], state=True),
            Column(f"until ({zone_label()})", lambda row: local_time(row["expiresAt"])),
        ),
        empty="Nothing here. What agents propose and blocked runs ask waits for you in this list.",
    )


def _what(row: Any) -> str:
    return preview(row["content"]["question" if row["kind"] == "question" else "name"])


def approval(row: Any) -> None:
    """Everything about one question; the prompt and the command in full."""
    if row["kind"] == "question":
        _question(row)
        return
    content = row["content"]
    command = content["command"]
    coming = ", ".join(map(local_time, row["nextRuns"]))
    print_facts(
        (
            ("id", row["id"]),
            ("state", row["status"]),
            ("schedule", f"{content['name']}  {row['scheduleId']}"),
            ("proposed by", row["proposedBy"]),
            ("why", row["reason"]),
            ("when", f"{content['cron']}  ({row['resolvedTimezone']})"),
            (f"next ({zone_label()})", coming or "when asked to"),
            ("agent", content["agentId"]),
            ("command", None if command is None else shlex.join(command)),
            ("subject", content["targetSubject"]),
            ("runtime", content["runtime"]),
            ("directory", content["cwd"]),
            ("may do", content["permissionMode"]),
            ("asked", zoned_time(row["createdAt"])),
            ("until", zoned_time(row["expiresAt"]) or None),
            ("answered", zoned_time(row["decidedAt"]) or None),
            ("by", row["decidedBy"]),
            ("answer", row["answer"]),
            ("hash", row["contentHash"]),
        )
    )
    say("")
    say("Prompt:")
    raw(content["prompt"].rstrip("\n") + "\n")
    if row["status"] == "pending":
        say("")
        say(f"Try it out:  dorkos pulse test {row['scheduleId']}")
        say(f"Let it run:  dorkos approvals approve {row['id']} {row['contentHash'][:_HASH_LENGTH]}")
        say(f"Refuse it:   dorkos approvals reject {row['id']}")


def _question(row: Any) -> None:
    content = row["content"]
    print_facts(
        (
            ("id", row["id"]),
            ("state", row["status"]),
            ("run", row["runId"]),
            ("agent", content["agentId"]),
            ("answers", " | ".join(content["options"]) or None),
            ("asked", zoned_time(row["createdAt"])),
            ("answered", zoned_time(row["decidedAt"]) or None),
            ("by", row["decidedBy"]),
            ("answer", row["answer"]),
            ("hash", row["contentHash"]),
        )
    )
    for title, text in (("Prompt", content["prompt"]), ("Question", content["question"])):
        say("")
        say(f"{title}:")
        raw(text.rstrip("\n") + "\n")
    if row["status"] == "pending":
        say("")
        say(f"Answer it:        dorkos pulse resume {row['runId']} 'Your answer.'")
        say(f"Leave it blocked: dorkos approvals reject {row['id']}")


def rejected(row: Any) -> None:
    """What was just refused."""
    if row["kind"] == "question":
        say(f"Closed the question of run {row['runId']}; it stays blocked.")
    else:
        say(f"Rejected {row['content']['name']}; it is paused.")


def approved(row: Any) -> None:
    """A schedule that was just approved, or a run that was answered."""
    if row["kind"] == "question":
        say(f"Answered run {row['runId']}.", "green")
        say(f"See what it prints: dorkos pulse logs {row['resumedBy']} --follow")
        return
    coming = ", ".join(map(local_time, row["nextRuns"][:3]))
    say(f"Approved {row['content']['name']}.", "green")
    say(f"Next ({zone_label()}): {coming or 'when asked to'}")
