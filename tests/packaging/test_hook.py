"""The git hook of this project refuses what `dorkos db check` refuses, in a repository made for the test."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOOLS = Path(sys.executable).parent
CHANGED = "src/dorkos/db/schema/mesh.py"

# Done as `.venv/bin/dorkos`: the code of the scratch repository, not that of this one.
_DORKOS = f"""#!/bin/sh
PYTHONPATH="$PWD/src" exec "{sys.executable}" -m dorkos "$@"
"""


class Repository:
    """A git repository that holds this project's hook, its scripts and its package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("lefthook.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, path)
        shutil.copytree(ROOT / "scripts", path / "scripts", ignore=ignored)
        shutil.copytree(ROOT / "src", path / "src", ignore=ignored)
        tools = path / ".venv" / "bin"
        tools.mkdir(parents=True)
        for name in ("lefthook", "ruff"):
            (tools / name).symlink_to(TOOLS / name)
        (tools / "dorkos").write_text(_DORKOS, encoding="utf-8")
        (tools / "dorkos").chmod(0o755)
        (path / ".gitignore").write_text("/.venv/\n__pycache__/\n", encoding="utf-8")

        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "Begin")
        self.run("scripts/hooks")

    def run(self, *command: str) -> str:
        """What the command printed; it must succeed."""
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """How the command ended. Nothing of this person's git, of CI or of an outer hook reaches it."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name != "CI" and not name.startswith(("GIT_", "LEFTHOOK", "DORK", "PYTHON"))
        }
        return subprocess.run(
            command,
            cwd=self.path,
            env=kept
            | {
                "HOME": str(self.path.parent),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_AUTHOR_NAME": "A",
                "GIT_AUTHOR_EMAIL": "a@example.org",
                "GIT_COMMITTER_NAME": "A",
                "GIT_COMMITTER_EMAIL": "a@example.org",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )

    def head(self) -> str:
        """The commit that was made last."""
        return self.run("git", "rev-parse", "HEAD")

    def change(self, old: str, new: str) -> None:
        """Replace text in a schema file, and stage it."""
        path = self.path / CHANGED
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        self.run("git", "add", CHANGED)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One commit, made before the hook was installed."""
    path = tmp_path / "a checkout"
    path.mkdir()
    return Repository(path)


def test_a_schema_change_without_its_migration_is_not_committed(repository: Repository) -> None:
    """`dorkos db check` is what refuses it; without the change the same commit passes."""
    began = repository.head()
    column = '    sa.Column("manifest_hash", Text),\n'
    changed = column + '    sa.Column("colour", Text),\n'
    repository.change(column, changed)
    refused = repository.attempt("git", "commit", "--message", "Colours")
    assert refused.returncode != 0
    assert "agents: column colour" in refused.stdout
    assert repository.head() == began

    repository.change(changed, column)
    # Still a change of the folder that the hook watches, so that the check runs and passes.
    repository.change("# The path and everything below it", "# The path, and everything below it")
    passed = repository.run("git", "commit", "--message", "Words")
    assert "Schema and migrations agree." in passed
    assert repository.head() != began


def test_an_edited_migration_is_not_committed(repository: Repository) -> None:
    """It landed once; its line in ledger.lock tells."""
    began = repository.head()
    migration = repository.path / "src/dorkos/db/migrations/0000_initial.py"
    with migration.open("a", encoding="utf-8") as file:
        file.write("\n# Edited.\n")
    repository.run("git", "add", "--all")
    refused = repository.attempt("git", "commit", "--message", "Edit")
    assert refused.returncode != 0
    assert "0000_initial was edited after it landed" in refused.stdout
    assert repository.head() == began


def test_a_migration_that_destroys_without_a_reason_is_not_committed(repository: Repository) -> None:
    """Though it is new, runs, and has its line in the lock; the refusal names the code."""
    began = repository.head()
    folder = repository.path / "src/dorkos/db/migrations"
    number = sum(1 for path in folder.glob("[0-9]*.py"))
    path = folder / f"{number:04d}_purge.py"
    text = (
        '"""Begin anew."""\n\nfrom __future__ import annotations\n\n'
        "from dorkos.db.step import Step\n\n\ndef upgrade(step: Step) -> None:\n"
        '    """Delete what happened."""\n'
        '    step.connection.exec_driver_sql("DELETE FROM events")\n'
    )
    path.write_text(text, encoding="utf-8")
    with (folder / "ledger.lock").open("a", encoding="utf-8") as file:
        file.write(f"{path.stem} {hashlib.sha256(text.encode()).hexdigest()}\n")
    repository.run("git", "add", "--all")
    refused = repository.attempt("git", "commit", "--message", "Purge")
    assert refused.returncode != 0
    assert f"{path.stem} deletes rows of events (D003)" in refused.stdout
    assert repository.head() == began
