"""What only Codex does: its own sandbox keeps the rights of a run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from dorkos.runtimes.results import Completed
from dorkos.vocabulary import PermissionMode
from tests.model_endpoint import Reply, Say, Use
from tests.runtimes.kits import CodexKit, take


@pytest.mark.parametrize(
    ("mode", "made"), [(PermissionMode.DEFAULT, False), (PermissionMode.BYPASS_PERMISSIONS, True)]
)
async def test_the_sandbox_keeps_the_rights(tmp_path: Path, mode: PermissionMode, made: bool) -> None:
    """Without rights to change anything a command cannot write; with all rights it can. The turn goes on."""
    with ExitStack() as opened:
        kit = CodexKit(opened)
        replies: list[Reply] = [Use("exec_command", {"cmd": "echo made > made.txt"}), Say("Done.")]
        taken = await take(kit, kit.replying(tmp_path, replies, permission_mode=mode))
    assert taken.ending == Completed()
    assert taken.text == "Done.\n"
    assert (tmp_path / "made.txt").exists() == made
