"""Facts about what the rights of a run cover."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.runtimes.rights import covers, inside
from dorkos.vocabulary import PermissionMode


@pytest.mark.parametrize(
    "kind", ["execute", "fetch", "delete", "other", "switch_mode", "something_new", None]
)
def test_what_is_not_named_is_not_covered(kind: str | None) -> None:
    """Commands, the network and whatever is not recognised need all rights."""
    for mode in PermissionMode:
        assert covers(mode, kind) == (mode is PermissionMode.BYPASS_PERMISSIONS)


def test_edits_need_their_mode() -> None:
    """Looking is always covered, editing only where edits are accepted."""
    assert all(covers(mode, "read") for mode in PermissionMode)
    assert [mode for mode in PermissionMode if covers(mode, "edit")] == [
        PermissionMode.ACCEPT_EDITS,
        PermissionMode.BYPASS_PERMISSIONS,
    ]


def test_a_path_is_inside_only_if_it_leads_there(tmp_path: Path) -> None:
    """Dots, absolute paths and links are followed before it is decided."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    assert inside(folder, "a/b") == folder.resolve() / "a/b"
    assert inside(folder, str(folder / "a")) == folder.resolve() / "a"
    for path in ("../a", "out/a", "/etc/passwd", "loop", "a\0b"):
        assert inside(folder, path) is None
