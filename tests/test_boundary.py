"""Paths from outside are confined to the boundary, links included."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.boundary import Boundary
from dorkos.errors import DorkError, ErrorCode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A boundary with a project, the data directory, and a link that leads out."""
    for name in ("root/projekt ü", "root/.dork", "outside", "rootless"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/leak").symlink_to(tmp_path / "outside")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root/loop")
    return tmp_path / "root"


def test_a_path_inside_is_answered_resolved(root: Path) -> None:
    """What exists and what does not exist yet, with spaces and non-ASCII."""
    boundary = Boundary(root, data_directory=root / ".dork")

    assert root / "projekt ü" == boundary.confine(str(root / "projekt ü"))
    assert root / "new" == boundary.confine(str(root / "projekt ü" / ".." / "new"))
    assert root == boundary.confine(str(root))


@pytest.mark.parametrize(
    "path",
    [
        "outside",
        "root/../outside",
        "root/leak",
        "root/leak/new",
        "rootless",
        "root/.dork",
        "root/.dork/token",
        "root/loop",
        "root/" + "x" * 5000,
        "root/a\x00b",
    ],
)
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    """By name, by `..`, by a link, by a common prefix; the data directory is outside every boundary."""
    boundary = Boundary(root, data_directory=root / ".dork")

    with pytest.raises(DorkError) as refusal:
        boundary.confine(f"{root.parent}/{path}")

    assert refusal.value.code == ErrorCode.OUTSIDE_BOUNDARY


@pytest.mark.parametrize("path", ["", ".", "projekt", "~nobody-of-this-name/x"])
def test_a_relative_path_is_refused(root: Path, path: str) -> None:
    """The server's working directory is not the caller's."""
    with pytest.raises(DorkError) as refusal:
        Boundary(root, data_directory=root / ".dork").confine(path)

    assert refusal.value.code == ErrorCode.OUTSIDE_BOUNDARY


def test_a_boundary_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """Otherwise every path would be refused later, and nobody would see why."""
    with pytest.raises(DorkError) as refusal:
        Boundary(tmp_path / "nowhere", data_directory=tmp_path)

    assert refusal.value.code == ErrorCode.INVALID_SETTING
