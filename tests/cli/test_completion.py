"""Completion, asked of a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import call

_ASK = """
eval "$(dorkos completion bash)"
COMP_WORDS=(dorkos {words}); COMP_CWORD={place}
_dorkos_completion dorkos
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [("pulse r", {"run", "runs", "resume"}), ("serv", {"service"}), ("service install --en", {"--enable"})],
)
def test_bash_completes_nouns_verbs_and_options(tmp_path: Path, words: str, found: set[str]) -> None:
    """By the script that the command prints, read as the documentation says."""
    bash = shutil.which("bash")
    assert bash is not None
    program = tmp_path / "dorkos"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dorkos "$@"\n', "utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        [bash, "--norc", "-c", _ASK.format(words=words, place=len(words.split()))],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == found, done.stderr


@pytest.mark.parametrize(
    ("shell", "word"), [("zsh", "#compdef dorkos"), ("fish", "complete --command dorkos")]
)
def test_other_shells_get_a_script_of_theirs(shell: str, word: str) -> None:
    """In the language that each reads."""
    done = call("completion", shell, environment={})
    assert done.code == 0
    assert word in done.out


def test_an_unknown_shell_is_refused() -> None:
    """With the ones that are known."""
    done = call("completion", "tcsh", environment={})
    assert done.code == 2
    assert "fish" in done.err
