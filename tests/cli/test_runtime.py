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
