"""Denying paths, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from tests.mesh.fleet import A_ULID, ACTOR, Fleet, make_fleet, make_project


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def denied(fleet: Fleet) -> list[str]:
    """The denied paths below the root."""
    return [str(Path(one.path).relative_to(fleet.root)) for one in await fleet.mesh.denials.list()]


async def allow(fleet: Fleet, path: Path | str) -> None:
    """Lift a denial."""
    await fleet.mesh.denials.clear(str(path), actor=ACTOR)


async def test_a_denial_holds_for_everything_below(fleet: Fleet) -> None:
    """Also for what does not exist, and not for what is beside or above."""
    await fleet.deny(fleet.root / "a" / "b")

    is_denied = fleet.mesh.denials.is_denied
    for path in ("a/b", "a/b/c", "a/b/c/d e ü"):
        assert await is_denied(str(fleet.root / path))
    for path in ("a", "a/bc", "a/c"):
        assert not await is_denied(str(fleet.root / path))


async def test_denying_again_keeps_the_id_and_replaces_the_rest(fleet: Fleet, clock: ManualClock) -> None:
    """One row a path, newest word counts."""
    await fleet.deny(fleet.root / "a", reason="first")
    (first,) = await fleet.mesh.denials.list()
    clock.advance(timedelta(seconds=1))

    await fleet.deny(fleet.root / "a")

    (second,) = await fleet.mesh.denials.list()
    assert second.id == first.id
    assert second.reason is None
    assert second.created_at > first.created_at


async def test_concurrent_denials_of_one_path_are_one(fleet: Fleet) -> None:
    """None of them fails."""
    await asyncio.gather(*(fleet.deny(fleet.root / "a", reason=str(number)) for number in range(8)))

    assert await denied(fleet) == ["a"]


async def test_denials_are_listed_newest_first(fleet: Fleet, clock: ManualClock) -> None:
    """Reason and denier with them."""
    for name in ("a", "b", "c"):
        await fleet.deny(fleet.root / name, reason=f"because {name}")
        clock.advance(timedelta(seconds=1))

    assert await denied(fleet) == ["c", "b", "a"]
    newest = (await fleet.mesh.denials.list())[0]
    assert (newest.reason, newest.denier) == ("because c", "ada")


async def test_the_real_path_is_denied(fleet: Fleet) -> None:
    """However it was named, and however it is named when it is lifted."""
    make_project(fleet.root / "real ü %2F")
    (fleet.root / "link").symlink_to(fleet.root / "real ü %2F")

    await fleet.deny(fleet.root / "link" / ".." / "link")
    assert await denied(fleet) == ["real ü %2F"]
    await allow(fleet, fleet.root / "link")
    assert await denied(fleet) == []


async def test_a_denial_can_be_lifted_by_the_path_shown_whatever_became_of_it(fleet: Fleet) -> None:
    """Gone, or replaced by a link that leads elsewhere, in the boundary or out of it."""
    for name in ("gone", "replaced", "moved"):
        folder = make_project(fleet.root / name)
        await fleet.deny(folder)
        folder.rmdir()
    (fleet.root / "replaced").symlink_to("/")
    (fleet.root / "moved").symlink_to(make_project(fleet.root / "elsewhere"))

    for path in (fleet.root / "gone", f"{fleet.root}/replaced/", fleet.root / "moved"):
        await allow(fleet, path)
    assert await denied(fleet) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("{root}/other", ErrorCode.DENIAL_NOT_FOUND),
        ("{root}/a/below", ErrorCode.DENIAL_NOT_FOUND),
        ("{root}", ErrorCode.DENIAL_NOT_FOUND),
        ("relative", ErrorCode.OUTSIDE_BOUNDARY),
        ("", ErrorCode.OUTSIDE_BOUNDARY),
        ("/", ErrorCode.OUTSIDE_BOUNDARY),
        ("%zz", ErrorCode.OUTSIDE_BOUNDARY),
    ],
)
async def test_what_is_not_denied_cannot_be_lifted(fleet: Fleet, path: str, code: ErrorCode) -> None:
    """A denial is lifted where it was made, and the refusal changes nothing. Outside, nothing is told."""
    await fleet.deny(fleet.root / "a")

    with pytest.raises(DorkError) as refusal:
        await allow(fleet, path.format(root=fleet.root))

    assert refusal.value.code is code
    assert await denied(fleet) == ["a"]


async def test_a_path_that_cannot_be_stored_is_refused(fleet: Fleet) -> None:
    """By its own name, or behind a link with a good one."""
    odd = fleet.root / "caf\udce9"
    odd.mkdir()
    (fleet.root / "link").symlink_to(odd)

    for attempt in (fleet.deny(fleet.root / "link"), allow(fleet, str(odd))):
        with pytest.raises(DorkError) as refusal:
            await attempt
        assert refusal.value.code is ErrorCode.INVALID_TEXT


async def test_denying_out_of_bounds_is_refused(fleet: Fleet) -> None:
    """Every path is confined."""
    for path in (Path("/"), Path("relative"), fleet.root / "data"):
        with pytest.raises(DorkError) as refusal:
            await fleet.deny(path)
        assert refusal.value.code is ErrorCode.OUTSIDE_BOUNDARY


async def test_each_change_has_its_event(fleet: Fleet) -> None:
    """A refused one has none."""
    await fleet.deny(fleet.root / "a")
    await allow(fleet, fleet.root / "a")
    with pytest.raises(DorkError):
        await allow(fleet, fleet.root / "a")

    assert await fleet.event_kinds() == ["mesh.path.denied", "mesh.path.allowed"]


async def test_denying_does_not_remove_a_registered_agent(fleet: Fleet) -> None:
    """Only a person's removal does; registering it anew is refused."""
    project = make_project(fleet.root / "scout", {"id": A_ULID, "name": "Scout", "runtime": "codex"})
    await fleet.register(project)

    await fleet.deny(project)

    assert await fleet.agent_ids() == [A_ULID]
    with pytest.raises(DorkError) as refusal:
        await fleet.register(project)
    assert refusal.value.code is ErrorCode.PATH_DENIED
