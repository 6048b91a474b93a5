"""How products mark their projects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dorkos.mesh.model import Hints, Problem
from dorkos.mesh.strategies.claude_code import ClaudeCodeStrategy
from dorkos.mesh.strategies.generic import ManifestStrategy
from dorkos.mesh.strategies.order import STRATEGIES, first_answer
from dorkos.mesh.strategies.paragraph import first_paragraph, shown_name
from dorkos.mesh.strategies.protocol import Folder, folder_at
from dorkos.vocabulary import AgentRuntime
from tests.mesh.fleet import A_ULID, make_project


def folder(path: Path) -> Folder:
    """The folder as the strategies see it."""
    return folder_at(path, {".dork", "CLAUDE.md"})


@pytest.mark.parametrize(
    ("text", "paragraph"),
    [
        (b"# Title\n\nFirst line\nsecond line\n\nanother", "First line second line"),
        (b"words\n# Heading ends it\nmore", "words"),
        (b"\xef\xbb\xbfWith a mark", "With a mark"),
        (b"one\r\ntwo\r\n\r\nthree", "one two"),
        (b"# only\n## headings", None),
        (b"", None),
        (b"\n  \n\t\n", None),
        (b"x" * 200, "x" * 200),
        (b"x" * 201, "x" * 197 + "..."),
        ("ä".encode() * 2 + "ä".encode()[:1], "ää\ufffd"),
        (b"red \x1b[31m\x07 text\tand tab", "red \ufffd[31m\ufffd text and tab"),
    ],
)
def test_the_first_paragraph(text: bytes, paragraph: str | None) -> None:
    """Headings do not count, lines are joined, length is bounded, nothing in it acts on a terminal."""
    assert first_paragraph(text) == paragraph


def test_a_name_can_always_be_shown() -> None:
    """Folders may be called anything."""
    assert shown_name("a\x1bb") == "a\ufffdb"
    assert shown_name("") == "agent"
    assert len(shown_name("n" * 255)) == 200


def test_claude_code_is_known_by_its_file(tmp_path: Path) -> None:
    """The folder gives the name, the file the description."""
    project = make_project(tmp_path / "Mein Späher", claude="# Scout\nLooks around.\n")

    assert ClaudeCodeStrategy().look(folder(project)) == Hints(
        suggested_name="Mein Späher",
        detected_runtime=AgentRuntime.CLAUDE_CODE,
        inferred_capabilities=("code",),
        description="Looks around.",
    )


def test_what_only_looks_like_claude_code_is_passed_over(tmp_path: Path) -> None:
    """A settings directory, a directory of that name, a FIFO of that name."""
    settings = make_project(tmp_path / "settings")
    (settings / ".claude").mkdir()
    directory = make_project(tmp_path / "directory")
    (directory / "CLAUDE.md").mkdir()
    fifo = make_project(tmp_path / "fifo")
    os.mkfifo(fifo / "CLAUDE.md")

    for project in (settings, directory, fifo):
        assert ClaudeCodeStrategy().look(folder(project)) is None


def test_a_shared_file_marks_a_project_but_is_not_read(tmp_path: Path) -> None:
    """A link out of the project counts as mark; its text belongs to somebody else."""
    (tmp_path / "shared.md").write_text("Secrets of the house.", encoding="utf-8")
    project = make_project(tmp_path / "project")
    (project / "CLAUDE.md").symlink_to(tmp_path / "shared.md")
    inside = make_project(tmp_path / "inside")
    (inside / "AGENTS.md").write_text("Words of its own.", encoding="utf-8")
    (inside / "CLAUDE.md").symlink_to("AGENTS.md")

    hints = ClaudeCodeStrategy().look(folder(project))
    assert hints is not None
    assert hints.description is None
    hints = ClaudeCodeStrategy().look(folder(inside))
    assert hints is not None
    assert hints.description == "Words of its own."


def test_a_manifest_gives_its_own_words(tmp_path: Path) -> None:
    """Hints for a person to judge; the id is only claimed."""
    project = make_project(
        tmp_path / "folder",
        {
            "id": A_ULID,
            "name": "Scout",
            "runtime": "command",
            "description": "Looks around.",
            "capabilities": ["look"],
            "namespace": "team",
            "entrypoint": ["./scout"],
        },
    )

    assert ManifestStrategy().look(folder(project)) == Hints(
        suggested_name="Scout",
        detected_runtime=AgentRuntime.COMMAND,
        inferred_capabilities=("look",),
        description="Looks around.",
        namespace="team",
        entrypoint=("./scout",),
        manifest_id=A_ULID,
    )


def test_a_long_description_is_a_short_hint(tmp_path: Path) -> None:
    """A thousand candidates fit into one answer."""
    manifest = {"name": "x", "runtime": "codex", "description": "d" * 10_000}

    hints = ManifestStrategy().look(folder(make_project(tmp_path / "x", manifest)))

    assert isinstance(hints, Hints)
    assert hints.description == "d" * 197 + "..."


def test_an_invalid_manifest_is_a_problem_and_not_somebody_elses_candidate(tmp_path: Path) -> None:
    """The folder could not be registered as Claude Code either, so it is not offered as that."""
    project = make_project(tmp_path / "folder", b"{", claude="Words.")

    answer = first_answer(STRATEGIES, folder(project))

    assert answer is not None
    assert isinstance(answer[1], Problem)
    assert answer[1].path == str(project / ".dork" / "agent.json")


def test_the_manifest_is_asked_first(tmp_path: Path) -> None:
    """It says most."""
    project = make_project(tmp_path / "x", {"name": "Scout", "runtime": "codex"}, claude="Words.")

    answer = first_answer(STRATEGIES, folder(project))

    assert answer is not None
    assert answer[0].name == "manifest"


def test_a_strategy_that_fails_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next one is asked, and the log has the fault."""

    class Faulty(ClaudeCodeStrategy):
        name = "faulty"

        def look(self, folder: Folder) -> Hints | None:
            raise RuntimeError("a fault of its own")

    project = make_project(tmp_path / "x", claude="Words.")

    answer = first_answer((Faulty(), ClaudeCodeStrategy()), folder(project))

    assert answer is not None
    assert answer[0].name == "claude-code"
    assert "a fault of its own" in caplog.text
