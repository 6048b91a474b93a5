"""`check`: schema, migrations and the committed checksums agree, and each way to disagree is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from dorkos.db.check import check
from dorkos.db.ledger import checksum, revisions
from dorkos.db.schema.tables import metadata
from tests.db.conftest import Bench

ALL = [revision.id for revision in revisions()]
NEXT = f"{len(ALL):04d}"


def _declared_with(change: Callable[[sa.MetaData], object]) -> sa.MetaData:
    copy = sa.MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(copy)
    change(copy)
    return copy


def _lock(bench: Bench, line: str) -> None:
    with (bench.directory / "ledger.lock").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _landed(bench: Bench, name: str, body: str, *, head: str = "") -> None:
    path = bench.add_revision(name, body, head=head)
    _lock(bench, f"{name} {checksum(path)}")


def test_the_tree_is_in_order() -> None:
    """Replaying the migrations gives the declared schema, and none was edited since it landed."""
    assert check() == []


def test_checking_changes_nothing(bench: Bench) -> None:
    """The folder of migrations has the same files with the same content afterwards."""

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in bench.directory.iterdir() if path.is_file()}

    before = files()
    assert check(bench.directory) == []
    assert files() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda m: m.tables["agents"].append_column(sa.Column("nickname", sa.Text)),
            "agents: column nickname",
        ),
        (lambda m: m.remove(m.tables["nodes"]), "table nodes is only in the migrations"),
        (
            lambda m: sa.Table("extra", m, sa.Column("id", sa.Text)),
            "table extra is only in the declared schema",
        ),
        (lambda m: sa.Index("ix_more", m.tables["events"].c.kind), "events: index ix_more"),
    ],
)
def test_a_declaration_without_its_migration_is_told(
    change: Callable[[sa.MetaData], object], told: str
) -> None:
    """A schema file that was changed alone does not pass."""
    (problem,) = check(declared=_declared_with(change))
    assert told in problem


def test_an_edited_migration_is_told(bench: Bench) -> None:
    """Without any database that remembers it."""
    with (bench.directory / f"{ALL[1]}.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    assert check(bench.directory) == [
        f"migration {ALL[1]} was edited after it landed (D008): put it back and write a new one instead"
    ]


def test_a_migration_that_is_not_locked_is_told_with_the_line_to_add(bench: Bench) -> None:
    """The complaint spells the line out; adding it is enough."""
    path = bench.add_revision(f"{NEXT}_more", "pass")
    (problem,) = check(bench.directory)
    _, _, line = problem.partition("add the line: ")
    assert line == f"{NEXT}_more {checksum(path)}"
    _lock(bench, line)
    assert check(bench.directory) == []


def test_a_locked_migration_that_is_gone_is_told(bench: Bench) -> None:
    """A file cannot be taken back once it landed."""
    _lock(bench, f"{NEXT}_gone abc")
    assert check(bench.directory) == [f"migration {NEXT}_gone is in ledger.lock but its file is gone"]


def test_the_lock_is_kept_in_order(bench: Bench) -> None:
    """Each migration once, in the order of their numbers."""
    path = bench.directory / "ledger.lock"
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, *reversed(lines)]), encoding="utf-8")
    assert check(bench.directory) == ["ledger.lock must name each migration once, in order"]


def test_a_missing_lock_is_no_silence(bench: Bench) -> None:
    """No list to compare with is a problem, not a pass."""
    (bench.directory / "ledger.lock").unlink()
    assert any("ledger.lock cannot be read" in problem for problem in check(bench.directory))


def test_an_empty_folder_is_no_silence(bench: Bench) -> None:
    """Nothing found to check is a problem, not a pass."""
    bench.copy_revisions(0)
    assert "there are no migrations" in check(bench.directory)


def test_a_number_left_out_is_told(bench: Bench) -> None:
    """Numbers rise by one."""
    name = f"{len(ALL) + 1:04d}_gap"
    _landed(bench, name, "pass")
    (problem,) = check(bench.directory)
    assert f"migration {name}: its number should be {NEXT}" in problem


def test_two_migrations_of_one_number_are_told(bench: Bench) -> None:
    """Two branches that took the next number each are two heads, found before they land."""
    names = (f"{NEXT}_one", f"{NEXT}_two")
    for name in names:
        _landed(bench, name, "pass")
    (problem,) = check(bench.directory)
    assert problem.startswith(f"migrations {names[0]} and {names[1]} have one number")


def test_a_danger_to_data_is_told(bench: Bench) -> None:
    """What dorkos.db.lint sees is a problem of the check; with a stated reason it passes."""
    body = "step.connection.exec_driver_sql('DELETE FROM events')"
    _landed(bench, f"{NEXT}_purge", body)
    (problem,) = check(bench.directory)
    assert problem.startswith(f"migration {NEXT}_purge deletes rows of events (D003)")
    bench.copy_revisions(len(ALL))
    _landed(bench, f"{NEXT}_purge", body, head='LOSS = {"D003": "nobody reads them"}')
    assert check(bench.directory) == []


def test_a_migration_that_cannot_run_is_told(bench: Bench) -> None:
    """The replay itself is part of the check."""
    _landed(bench, f"{NEXT}_broken", "step.connection.exec_driver_sql('DELETE FROM nothing')")
    danger, broken = check(bench.directory)
    assert "D003" in danger
    assert f"cannot be replayed: The migration {NEXT}_broken failed" in broken
