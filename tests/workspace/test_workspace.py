"""Project folders as clients see them, over HTTP: confined, bounded, and never changed by a look."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dorkos.boundary import Boundary
from dorkos.clock import ManualClock
from dorkos.server.status import SYSTEM
from dorkos.workspace import files, transcripts
from dorkos.workspace.operations import OPERATIONS
from dorkos.workspace.place import Workspace
from tests.server.kit import Served, serving

SESSION = "0b9a3c1e-7d52-4f0e-9a57-2f1c3d4e5f60"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The boundary, with a project, a data directory and a link that leads out."""
    root = tmp_path / "wörk"
    for name in ("bot/src", "bot/.git-like", "Zoo", ".hidden", ".dork/backups", "bot/node_modules/x"):
        (root / name).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "way-out").symlink_to(tmp_path / "outside")
    (root / "inner").symlink_to(root / "bot")
    (root / "bot" / "a.py").write_text("", "utf-8")
    (root / "bot" / "src" / "b.py").write_text("", "utf-8")
    (root / "bot" / "node_modules" / "x" / "c.js").write_text("", "utf-8")
    (root / "bot" / ".env").write_text("", "utf-8")
    return root


@pytest.fixture
async def served(root: Path) -> AsyncIterator[Served]:
    """A server that looks into it."""
    part = Workspace(
        Boundary(root, data_directory=root / ".dork"),
        ManualClock(),
        default=root / "bot",
        transcripts=root.parent / "claude" / "projects",
    )
    async with serving(operations=(*SYSTEM, *OPERATIONS), parts={"workspace": part}) as served:
        yield served


async def get(served: Served, address: str, status: int = 200, **query: Any) -> Any:
    """The answer to a question."""
    answer = await served.client.get(address, params={name: str(value) for name, value in query.items()})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_folder_shows_its_folders_by_name(served: Served, root: Path) -> None:
    """Not the hidden ones, not the data directory, and no link that leads out of the boundary."""
    found = await get(served, "/api/directory")
    assert found["path"] == str(root)
    assert found["parent"] is None
    assert [entry["name"] for entry in found["entries"]] == ["bot", "inner", "Zoo"]
    assert found["entries"][0] == {"name": "bot", "path": str(root / "bot"), "isDirectory": True}
    hidden = await get(served, "/api/directory", showHidden="true")
    assert [entry["name"] for entry in hidden["entries"]] == [".hidden", "bot", "inner", "Zoo"]
    below = await get(served, "/api/directory", path=root / "bot")
    assert (below["parent"], [entry["name"] for entry in below["entries"]]) == (
        str(root),
        ["node_modules", "src"],
    )
    assert await get(served, "/api/directory/default") == {"path": str(root / "bot")}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("/api/directory", "path"),
        ("/api/files", "cwd"),
        ("/api/git/status", "dir"),
        ("/api/commands", "cwd"),
        ("/api/sessions", "cwd"),
        (f"/api/sessions/{SESSION}", "cwd"),
        (f"/api/sessions/{SESSION}/messages", "cwd"),
    ],
)
async def test_every_path_is_confined_and_must_be_a_folder(
    served: Served, root: Path, address: str, key: str
) -> None:
    """Whatever it looks like; the lineage's server died of some of these."""
    outside = ("/etc", "way-out", str(root / "way-out"), str(root / ".." / "outside"), str(root / ".dork"))
    for path in (*outside, "relative", "~nobody-of-that-name/x", str(root / "bot" / "a.py" / "x")):
        refused = await get(served, address, 403, **{key: path})
        assert refused["code"] == "outside_boundary", path
    assert (await get(served, address, 404, **{key: root / "none"}))["code"] == "not_found"
    assert (await get(served, address, 400, **{key: root / "bot" / "a.py"}))["error"] == "Not a directory"
    await get(served, address, 400, **{key: ""})


async def test_files_are_found_without_git_and_with_it(
    served: Served, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignored ones are left out, new ones are in; a repository above the boundary does not count."""
    plain = await get(served, "/api/files", cwd=root / "bot")
    assert plain == {"files": ["a.py", "src/b.py"], "truncated": False, "total": 2}
    monkeypatch.setattr(files, "FILES_MAX", 1)
    cut = await get(served, "/api/files", cwd=root / "bot")
    assert (cut["files"], cut["truncated"]) == (["a.py"], True)
    monkeypatch.undo()
    _git(root.parent, "init", "-q")
    assert await get(served, "/api/files", cwd=root / "bot") == plain
    _git(root / "bot", "init", "-q")
    write(root / "bot" / ".gitignore", "node_modules\n.env\n")
    found = await get(served, "/api/files", cwd=root / "bot")
    assert sorted(found["files"]) == [".gitignore", "a.py", "src/b.py"]


async def test_a_working_tree_is_told_in_numbers(served: Served, root: Path) -> None:
    """Where there is none, that is an answer, not a refusal."""
    project = root / "bot"
    assert await get(served, "/api/git/status", dir=project) == {"error": "not_git_repo"}
    _git(project, "init", "-q", "-b", "main")
    write(project / ".gitignore", "node_modules\n.env\n")
    _git(project, "add", "-A")
    _git(project, "commit", "-q", "-m", "one")
    clean = await get(served, "/api/git/status", dir=project)
    assert (clean["branch"], clean["tracking"]) == ("main", None)
    assert (clean["clean"], clean["detached"]) == (True, False)
    write(project / "a.py", "changed")
    write(project / "new.py", "")
    _git(project, "mv", "src/b.py", "src/c.py")
    found = await get(served, "/api/git/status")
    assert (found["modified"], found["staged"], found["untracked"], found["clean"]) == (1, 1, 1, False)
    _git(project, "checkout", "-q", "--detach")
    found = await get(served, "/api/git/status", dir=project)
    assert (found["branch"], found["detached"]) == ("HEAD", True)


async def test_a_look_runs_no_program_that_a_repository_names(served: Served, root: Path) -> None:
    """A folder may come from anywhere."""
    project, trap = root / "bot", root.parent / "ran"
    _git(project, "init", "-q")
    _git(project, "config", "core.fsmonitor", f"touch '{trap}' #")
    _git(project, "config", "filter.a=b.clean", f"touch '{trap}'; cat")
    write(project / ".gitattributes", "* filter=a=b\n*.py filter=d\n")
    write(root / "filters", f"[filter \"d\"]\n\tclean = touch '{trap}'\n\trequired\n")
    _git(project, "config", "include.path", str(root / "filters"))
    _git(project, "-c", "filter.d.clean=cat", "add", "a.py", "src/b.py")
    _git(project, "commit", "-q", "-m", "one")
    trap.unlink(missing_ok=True)  # What the person did by hand ran it.
    # As large as before and younger: git can tell only by reading it.
    os.utime(project / "a.py", (1, 1))
    assert (await get(served, "/api/git/status", dir=project))["branch"]
    await get(served, "/api/files", cwd=project)
    assert not there(trap)

    for key, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(root)),
        ("remote.origin.uploadpack", f"touch '{trap}'; false"),
        ("protocol.file.allow", "always"),
    ):
        _git(project, "config", key, value)
    for folder in (project / ".git" / "objects").glob("??"):
        shutil.rmtree(folder)
    await get(served, "/api/git/status", dir=project)
    assert not there(trap)


async def test_no_repository_leads_out_of_the_boundary(served: Served, root: Path) -> None:
    """Neither by a `.git` that is a file or a link, nor by saying that its tree is elsewhere."""
    outside = root.parent / "outside"
    write(outside / "secret", "")
    _git(outside, "init", "-q")
    plain = await get(served, "/api/files", cwd=root / "bot")
    ways: tuple[Callable[[], object], ...] = (
        lambda: write(root / "bot" / ".git", f"gitdir: {outside / '.git'}\n"),
        lambda: (root / "bot" / ".git").symlink_to(outside / ".git"),
        lambda: _git(root / "bot", "init", "-q", "--separate-git-dir", str(root.parent / "apart")),
    )
    for lead_out in ways:
        lead_out()
        assert await get(served, "/api/git/status", dir=root / "bot") == {"error": "not_git_repo"}
        assert await get(served, "/api/files", cwd=root / "bot") == plain
        (root / "bot" / ".git").unlink()
    _git(root / "bot", "init", "-q")
    _git(root / "bot", "config", "core.worktree", str(outside))
    assert await get(served, "/api/git/status", dir=root / "bot") == {"error": "not_git_repo"}
    assert await get(served, "/api/files", cwd=root / "bot") == plain


async def test_the_data_directory_is_not_listed(served: Served, root: Path) -> None:
    """With git and without: nothing in it may be named."""
    data = root / "bot" / "däta"
    part = Workspace(
        Boundary(root, data_directory=data), ManualClock(), default=root, transcripts=root.parent / "none"
    )
    write(data / "token", "")
    write(data / "backups" / "x.db", "")
    for is_repository in (False, True):
        if is_repository:
            _git(root / "bot", "init", "-q")
        for folder in (root / "bot", root):
            assert not [name for name in files.list_files(folder, part.boundary).names if "däta" in name]


async def test_slash_commands_come_with_their_front_matter(served: Served, root: Path) -> None:
    """Sorted by what one types; a file that is none of ours or leads elsewhere is passed over."""
    folder = root / "bot" / ".claude" / "commands"
    write(folder / "docs" / "write.md", '---\ndescription: "Write: docs"\nargument-hint: FILE\n---\nText')
    write(folder / "docs" / "allow.md", "---\nallowed-tools: Read, Edit\n---\n")
    write(folder / "plain.md", "No front matter\n---\ndescription: no\n")
    write(folder / "docs" / "notes.txt", "")
    (folder / "docs" / "link.md").symlink_to("/etc/passwd")
    found = (await get(served, "/api/commands", cwd=root / "bot", refresh="true"))["commands"]
    assert [one["fullCommand"] for one in found] == ["/docs:allow", "/docs:write", "/plain"]
    assert found[1] == {
        "namespace": "docs",
        "command": "write",
        "fullCommand": "/docs:write",
        "description": "Write: docs",
        "argumentHint": "FILE",
        "filePath": str(folder / "docs" / "write.md"),
    }
    assert found[0]["allowedTools"] == ["Read", "Edit"]


async def test_sessions_are_what_the_transcripts_tell(served: Served, root: Path) -> None:
    """The last one changed first; a damaged line costs no more than itself."""
    folder = transcripts.project_folder(root.parent / "claude" / "projects", root / "bot")
    assert await get(served, "/api/sessions", cwd=root / "bot") == []
    lines: list[Any] = [
        {"type": "summary", "summary": "x"},
        {
            "type": "user",
            "uuid": "u1",
            "timestamp": "2026-03-01T10:00:00.000Z",
            "permissionMode": "plan",
            "cwd": str(root / "bot"),
            "message": {"role": "user", "content": "Tidy   up\nthe tests"},
        },
        "half a li",
        {
            "type": "assistant",
            "uuid": "a1",
            "timestamp": "2026-03-01T10:00:05.000Z",
            "message": {
                "model": "claude-x",
                "content": [{"type": "text", "text": "Done."}, {"type": "tool_use", "name": "Read"}],
                "usage": {"input_tokens": 3, "cache_read_input_tokens": 40},
            },
        },
    ]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    write(folder / f"{SESSION}.jsonl", text)
    old = f"1{SESSION[1:]}"
    write(folder / f"{old}.jsonl", "")
    os.utime(folder / f"{old}.jsonl", (1, 1))
    write(folder / "agent-1.jsonl", text)

    found = await get(served, "/api/sessions", cwd=root / "bot")
    assert [one["id"] for one in found] == [SESSION, old]
    assert {name: found[0][name] for name in found[0] if name != "updatedAt"} == {
        "id": SESSION,
        "title": "Tidy up the tests",
        "createdAt": "2026-03-01T10:00:00.000Z",
        "lastMessagePreview": "Done.",
        "permissionMode": "plan",
        "model": "claude-x",
        "contextTokens": 43,
        "cwd": str(root / "bot"),
    }
    assert found[1]["title"] == f"Session {old[:8]}"
    assert await get(served, f"/api/sessions/{SESSION}") == found[0]
    said = (await get(served, f"/api/sessions/{SESSION}/messages"))["messages"]
    assert [(one["id"], one["role"], one["content"]) for one in said] == [
        ("u1", "user", "Tidy   up\nthe tests"),
        ("a1", "assistant", "Done."),
    ]


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Fsecret", f"2{SESSION[1:]}", f"{SESSION}x"])
async def test_a_session_that_is_not_there_is_not_found(served: Served, name: str) -> None:
    """Whatever its id looks like."""
    assert (await get(served, f"/api/sessions/{name}", 404))["error"] == "Session not found"
    assert (await get(served, f"/api/sessions/{name}/messages", 404))["code"] == "not_found"


def write(path: Path, text: str) -> None:
    """A file, with the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def there(path: Path) -> bool:
    """Whether there is such a file."""
    return path.exists()


def _git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=kim", "-c", "user.email=kim@example.com", "-C", str(folder), *words],
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
    )
