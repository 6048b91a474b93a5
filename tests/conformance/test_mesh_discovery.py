"""Discovery against what is registered and denied, on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.discovery import Limits
from dorkos.mesh.model import Progress, SearchEnd, Truncation
from dorkos.setting_groups.mesh import MeshSettings
from tests.mesh.fleet import A_ULID, Fleet, make_fleet, make_project

SCOUT = {"id": A_ULID, "name": "Scout", "runtime": "codex"}


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def found_in(fleet: Fleet, *roots: Path) -> list[str]:
    """The candidates below the roots, by their paths below the boundary."""
    found = await fleet.mesh.discover([str(root) for root in roots] or None)
    return [str(Path(candidate.path).relative_to(fleet.root)) for candidate in found.candidates]


async def test_nothing_is_registered_by_looking(fleet: Fleet) -> None:
    """A valid manifest with an id of its own is only a candidate."""
    make_project(fleet.root / "scout", SCOUT)

    assert await found_in(fleet) == ["scout"]
    assert await fleet.agent_ids() == []
    assert await fleet.event_kinds() == []
    assert await fleet.open_mailboxes() == {}


async def test_a_registered_folder_disappears_from_the_candidates(fleet: Fleet) -> None:
    """Also when the root is named by a link."""
    await fleet.register(make_project(fleet.root / "real" / "scout", SCOUT))
    make_project(fleet.root / "real" / "other", claude="Words.")
    (fleet.root / "link").symlink_to(fleet.root / "real")

    assert await found_in(fleet) == ["real/other"]
    assert await found_in(fleet, fleet.root / "link") == ["real/other"]
    assert await found_in(fleet, fleet.root / "real" / "scout") == []


async def test_a_denied_folder_stays_out_until_the_denial_is_lifted(fleet: Fleet) -> None:
    """A manifest does not help it."""
    project = make_project(fleet.root / "scout", SCOUT)
    make_project(project / "below", claude="Words.")
    await fleet.deny(project)

    assert await found_in(fleet) == []

    await fleet.mesh.denials.clear(str(project), actor="ada")
    assert await found_in(fleet) == ["scout", "scout/below"]


async def test_a_root_below_a_denied_folder_is_reported(fleet: Fleet) -> None:
    """Beginning inside of it is no way around."""
    inside = make_project(fleet.root / "denied" / "inside", SCOUT)
    await fleet.deny(fleet.root / "denied")

    found = await fleet.mesh.discover([str(inside), str(fleet.root)])

    assert found.candidates == ()
    assert [(problem.path, problem.reason) for problem in found.problems] == [(str(inside), "is denied")]


async def test_a_copy_of_a_registered_agent_is_marked(fleet: Fleet) -> None:
    """A person sees that registering it would be refused, and why."""
    await fleet.register(make_project(fleet.root / "original", SCOUT))
    make_project(fleet.root / "copy", SCOUT)
    make_project(fleet.root / "other", {**SCOUT, "id": "01JNA0000000000000000000BB"})

    found = await fleet.mesh.discover()

    duplicates = {Path(one.path).name: one.duplicate_of for one in found.candidates}
    assert duplicates == {"copy": A_ULID, "other": None}


async def test_a_manifest_of_a_newer_version_is_shown_and_left_alone(fleet: Fleet) -> None:
    """It can be registered as far as it is understood; the answer says why the file stays as it is."""
    project = make_project(fleet.root / "scout", {**SCOUT, "schemaVersion": 2})
    before = (project / ".dork/agent.json").read_bytes()

    (candidate,) = (await fleet.mesh.discover()).candidates
    registered = await fleet.register(project, name="Spy")

    assert candidate.hints.schema_version == 2
    assert registered.agent.name == "Spy"
    assert "is of version 2, and this DorkOS writes 1" in (registered.manifest_problem or "")
    assert (project / ".dork/agent.json").read_bytes() == before


async def test_what_could_not_be_registered_is_not_offered(fleet: Fleet) -> None:
    """What lies in the data directory, and a folder whose manifest would."""
    make_project(fleet.root / "data" / "scout", SCOUT)
    home = make_project(fleet.root / "home", claude="Words.")
    (home / ".dork").symlink_to(fleet.root / "data")
    make_project(fleet.root / "good", claude="Words.")

    assert await found_in(fleet) == ["good"]


async def test_a_search_tells_the_same_as_it_goes(fleet: Fleet) -> None:
    """Denied roots first, each finding as the whole answer has it, and the end last."""
    await fleet.register(make_project(fleet.root / "original", SCOUT))
    make_project(fleet.root / "copy", SCOUT)
    make_project(fleet.root / "broken", b"{")
    await fleet.deny(make_project(fleet.root / "denied", SCOUT))
    roots = [str(fleet.root), str(fleet.root / "denied")]

    whole = await fleet.mesh.discover(roots)
    search = await fleet.mesh.explorer.search(roots, max_depth=None)
    told = [one async for one in search if not isinstance(one, Progress)]

    assert told == [
        *whole.problems[:1],
        *whole.problems[1:],
        *whole.candidates,
        SearchEnd(Progress(whole.directories, 0, 1, 1), None),
    ]
    assert [one.reason for one in whole.problems][:1] == ["is denied"]
    assert [one.duplicate_of for one in whole.candidates] == [A_ULID]


async def test_a_persons_home_is_known(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product's settings for all projects make no agent of it, also by a link to it."""
    (fleet.root / "real" / ".codex").mkdir(parents=True)
    (fleet.root / "link").symlink_to(fleet.root / "real")
    monkeypatch.setenv("HOME", str(fleet.root / "link"))
    assert await found_in(fleet) == []

    monkeypatch.setenv("HOME", str(fleet.root))
    assert await found_in(fleet) == ["real"]


async def test_every_root_is_confined(fleet: Fleet) -> None:
    """One bad root refuses the whole request, before anything is read."""
    (fleet.root / "leak").symlink_to("/")

    for root in ("/", str(fleet.root / "leak"), "relative", str(fleet.root / "data")):
        with pytest.raises(DorkError) as refusal:
            await fleet.mesh.discover([str(fleet.root), root])
        assert refusal.value.code is ErrorCode.OUTSIDE_BOUNDARY


async def test_the_settings_say_where_to_look(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    """Named roots go first, then the scan roots, then the boundary."""
    for name in ("a", "b"):
        make_project(tmp_path / name, claude="Words.")
    fleet = make_fleet(db, clock, tmp_path, settings=MeshSettings(scan_roots=[tmp_path / "a"]))

    assert await found_in(fleet) == ["a"]
    assert await found_in(fleet, tmp_path / "b") == ["b"]
    assert await found_in(make_fleet(db, clock, tmp_path)) == ["a", "b"]


async def test_bounds_are_told(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    """A depth may be asked for; the rest is set."""
    for number in range(9):
        make_project(tmp_path / f"{number}/inner", claude="Words.")
    fleet = make_fleet(db, clock, tmp_path, limits=Limits(directories=12))

    found = await fleet.mesh.discover(max_depth=1)
    assert (len(found.candidates), found.truncated) == (0, None)
    found = await fleet.mesh.discover()
    assert (found.directories, found.truncated) == (12, Truncation.DIRECTORIES)


async def test_switched_off_it_says_so(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    """Registering still works."""
    fleet = make_fleet(db, clock, tmp_path, settings=MeshSettings(enabled=False))

    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.discover()
    assert refusal.value.code is ErrorCode.NOT_READY
    assert "DORKOS_MESH_ENABLED" in (refusal.value.hint or "")
    await fleet.register(make_project(tmp_path / "scout", SCOUT))
