"""`dorkos runtime`, and questions answered from the command line, against a real server."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Dorkos


def test_a_runtime_is_listed_and_proved(dorkos: Dorkos) -> None:
    """The list says what works; a test runs one from end to end, and its exit code tells."""
    assert "Does what its prompt says" in dorkos("runtime", "list").out
    proved = dorkos("runtime", "test", "scripted", "--prompt", "ready")
    assert (proved.code, proved.out.strip()) == (0, "ready")
    failed = dorkos("runtime", "test", "scripted", "--prompt", "#!scripted\nfail broken It is.")
    assert failed.code == 1
    refused = dorkos("runtime", "test", "nonesuch")
    assert refused.code not in (0, 1)
    assert "Name one of" in refused.err


def test_a_question_is_shown_and_answered(dorkos: Dorkos, projects: Path) -> None:
    """The run is blocked, its question is listed, and the answer goes on with its session until it ends."""
    asks = "#!scripted\nsession\nask Which one, then? | red | blue"
    words = ("--manual", "--runtime", "scripted", "--permission-mode", "default", "--prompt", asks)
    assert dorkos("pulse", "add", "asking", *words, "--cwd", str(projects)).code == 0
    assert dorkos("pulse", "run", "asking", "--follow").code == 1

    assert "Which one, then?" in dorkos("pulse", "questions").out
    [asked] = [row for row in dorkos("pulse", "questions", "--json").json if row["content"]["prompt"] == asks]
    done = dorkos("pulse", "resume", asked["runId"], "#!scripted\nsay in {resume}", "--follow")
    assert (done.code, done.out) == (0, f"in scripted-{asked['runId']}\n")
    assert asked["id"] not in {row["id"] for row in dorkos("pulse", "questions", "--json").json}
    assert dorkos("pulse", "resume", asked["runId"], "again").code == 0


def test_a_question_waits_among_the_approvals(dorkos: Dorkos, projects: Path) -> None:
    """It is listed, shown in full, answered by its hash or left unanswered, and each says what came of it."""
    asks = "#!scripted\nsession\nask Which paint, then? | red | blue"
    words = ("--manual", "--runtime", "scripted", "--permission-mode", "default", "--prompt", asks)
    assert dorkos("pulse", "add", "painting", *words, "--cwd", str(projects)).code == 0
    waiting = []
    for _ in range(2):
        assert dorkos("pulse", "run", "painting", "--follow").code == 1
        rows = dorkos("approvals", "list", "--json").json
        waiting += [row for row in rows if row["content"].get("prompt") == asks and row not in waiting]
    first, second = waiting
    assert "Which paint, then?" in dorkos("approvals", "list").out
    shown = dorkos("approvals", "show", first["id"]).out
    assert ("red | blue" in shown, f"dorkos pulse resume {first['runId']}" in shown) == (True, True)

    unsaid = dorkos("approvals", "approve", first["id"], first["contentHash"])
    assert (unsaid.code != 0, "validation_failed" in unsaid.err) == (True, True)
    answered = dorkos(
        *("approvals", "approve", first["id"], first["contentHash"][:12], "--answer", "#!scripted\nsay blue"),
        "--json",
    ).json
    assert answered["status"] == "approved"
    assert dorkos("pulse", "logs", answered["resumedBy"], "--follow").out == "blue\n"
    assert "stays blocked" in dorkos("approvals", "reject", second["id"]).out
    left = {row["id"] for row in dorkos("approvals", "list", "--json").json}
    assert left.isdisjoint({first["id"], second["id"]})
