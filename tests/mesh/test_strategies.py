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

MARKERS = frozenset[str]().union(*(strategy.markers for strategy in STRATEGIES))


def folder(path: Path) -> Folder:
    """The folder as the strategies see it."""
    return folder_at(path, MARKERS)


def make(path: Path, *things: str) -> Path:
    """A folder with these files in it, each with words of its own; a name that ends in `/` is a folder."""
    path.mkdir()
    for thing in things:
        if thing.endswith("/"):
            (path / thing).mkdir()
        else:
            (path / thing).write_text(f"# Title\n\nWords of {thing}.\n", encoding="utf-8")
    return path


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


@pytest.mark.parametrize(
    ("things", "strategy", "runtime", "described_by"),
    [
        (["CLAUDE.md"], "claude-code", "claude-code", "CLAUDE.md"),
        ([".cursor/"], "cursor", "cursor", None),
        ([".codex/"], "codex", "codex", None),
        (["AGENTS.md"], "codex", "codex", "AGENTS.md"),
        ([".gemini/"], "gemini", "gemini", None),
        (["GEMINI.md"], "gemini", "gemini", "GEMINI.md"),
        ([".opencode/"], "opencode", "opencode", None),
        (["opencode.json"], "opencode", "opencode", None),
        (["opencode.jsonc"], "opencode", "opencode", None),
        # Several marks: the lineage's order first, and what many products read marks the last of all.
        (["CLAUDE.md", ".cursor/", ".codex/", "GEMINI.md"], "claude-code", "claude-code", "CLAUDE.md"),
        ([".cursor/", ".codex/", ".gemini/", ".opencode/", "AGENTS.md"], "cursor", "cursor", "AGENTS.md"),
        ([".codex/", ".gemini/", ".opencode/", "AGENTS.md"], "codex", "codex", "AGENTS.md"),
        ([".gemini/", ".opencode/", "AGENTS.md"], "gemini", "gemini", None),
        (["opencode.json", "AGENTS.md"], "opencode", "opencode", "AGENTS.md"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_each_product_is_known_by_its_marks(
    tmp_path: Path, things: list[str], strategy: str, runtime: str, described_by: str | None
) -> None:
    """The folder gives the name, the product's own instructions the description."""
    answer = first_answer(STRATEGIES, folder(make(tmp_path / "Project", *things)))

    assert answer is not None
    assert answer[0].name == strategy
    assert answer[1] == Hints(
        suggested_name="Project",
        detected_runtime=AgentRuntime(runtime),
        inferred_capabilities=("code",),
        description=None if described_by is None else f"Words of {described_by}.",
    )


@pytest.mark.parametrize(
    "things",
    [
        ["CLAUDE.md/"], ["AGENTS.md/"], ["GEMINI.md/"], ["opencode.json/"],
        [".cursor"], [".codex"], [".gemini"], [".opencode"], [".dork"], [".dork/"],
        ["claude.md"], ["agents.md"], [".claude/"], ["README.md"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_only_resembles_a_mark_is_none(tmp_path: Path, things: list[str]) -> None:
    """A file is no directory and a directory no file; the letters' case counts."""
    assert first_answer(STRATEGIES, folder(make(tmp_path / "project", *things))) is None


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
        schema_version=1,
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
