"""`dorkos db revision`, in a checkout of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dorkos

PACKAGE = Path(dorkos.__file__).parent


def _run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DORK", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-m", "dorkos", "db", *words],
        cwd=checkout,
        env=kept | {"PYTHONPATH": str(checkout / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_changed_schema_file_becomes_a_migration(tmp_path: Path) -> None:
    """From the refusal through the draft to the check that passes: what a developer does."""
    shutil.copytree(PACKAGE, tmp_path / "src" / "dorkos", ignore=shutil.ignore_patterns("__pycache__"))
    outside = _run(tmp_path, "revision", "-m", "agents have colours", "--json")
    assert (outside.returncode, json.loads(outside.stdout)["code"]) == (2, "usage")
    (tmp_path / ".git").mkdir()
    nothing = _run(tmp_path, "revision", "-m", "agents have colours")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "--empty" in nothing.stderr

    schema = tmp_path / "src" / "dorkos" / "db" / "schema" / "mesh.py"
    old = schema.read_text(encoding="utf-8")
    new = old.replace(
        '    sa.Column("manifest_hash", Text),\n',
        '    sa.Column("manifest_hash", Text),\n    sa.Column("colour", Text),\n',
    )
    assert new != old
    schema.write_text(new, encoding="utf-8")
    assert _run(tmp_path, "check").returncode == 1
    drafted = _run(tmp_path, "revision", "-m", "agents have colours")
    assert drafted.returncode == 0, drafted.stderr
    assert "_agents_have_colours.py" in drafted.stdout
    assert "agents: column colour" in drafted.stdout
    assert "ledger.lock" in drafted.stdout
    unlocked = json.loads(_run(tmp_path, "check", "--json").stdout)["problems"]
    (line,) = (problem.partition("add the line: ")[2] for problem in unlocked)
    with (schema.parent.parent / "migrations" / "ledger.lock").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert _run(tmp_path, "check").returncode == 0
