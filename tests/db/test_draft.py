"""Drafting a migration: what is drafted leads to the schema, or refuses to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.db.check import check
from dorkos.db.draft import Draft, draft_revision
from dorkos.db.ledger import LOCK_FILE, MIGRATIONS, checksum, revisions
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Flag, Instant, Json, Text, Ulid
from dorkos.errors import DorkError, ErrorCode

NUMBER = f"{len(revisions()):04d}"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """The migrations in a checkout of their own."""
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "src" / "dorkos" / "db" / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _declared(change: Callable[[sa.MetaData], object]) -> sa.MetaData:
    copy = sa.MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(copy)
    change(copy)
    return copy


def _drafted(migrations: Path, change: Callable[[sa.MetaData], object]) -> tuple[Draft, sa.MetaData]:
    declared = _declared(change)
    return draft_revision("Agents: colours!", empty=False, directory=migrations, declared=declared), declared


def _land(draft: Draft) -> None:
    with (draft.path.parent / LOCK_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{draft.path.stem} {checksum(draft.path)}\n")


def _add_much(m: sa.MetaData) -> None:
    m.tables["agents"].append_column(sa.Column("colour", Json))
    sa.Index("ix_more", m.tables["events"].c.kind, sqlite_where=sa.text("kind = 'x'"))
    sa.Table(
        "extra",
        m,
        sa.Column("id", Ulid, primary_key=True, nullable=False),
        sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE")),
        sa.Column("at", Instant, nullable=False),
        sa.Column("lit", Flag, nullable=False),
        sa.Column("word", Text, server_default="it's"),
        sa.CheckConstraint("lit IN (0, 1)", name="lit"),
        sa.UniqueConstraint("at", "word"),
        sqlite_strict=True,
    )


def files_in(folder: Path) -> list[Path]:
    """What lies there, apart from what Python keeps for itself."""
    return sorted(path for path in folder.iterdir() if path.name != "__pycache__")


def test_a_draft_that_lacks_nothing_passes_the_check_once_it_is_locked(migrations: Path) -> None:
    """Tables, columns and indexes that were added are drafted whole, under the next number."""
    draft, declared = _drafted(migrations, _add_much)
    assert draft.path.name == f"{NUMBER}_agents_colours.py"
    assert draft.missing == ()
    assert len(draft.differences) == 3
    (unlocked,) = check(migrations, declared)
    assert LOCK_FILE in unlocked
    _land(draft)
    assert check(migrations, declared) == []


def test_a_draft_has_the_shape_of_a_migration(migrations: Path) -> None:
    """One `upgrade` of a step, with frozen types."""
    draft, _ = _drafted(migrations, lambda m: m.tables["agents"].append_column(sa.Column("colour", Json)))
    assert draft.path.read_text(encoding="utf-8") == (
        '"""Agents: colours!."""\n\nfrom __future__ import annotations\n\nimport sqlalchemy as sa\n\n'
        "from dorkos.db.step import Step\nfrom dorkos.db.types import Text\n\n\n"
        'def upgrade(step: Step) -> None:\n    """Agents: colours!."""\n'
        "    step.op.add_column('agents', sa.Column('colour', Text, nullable=True))\n"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda m: m.tables["agents"].append_constraint(sa.CheckConstraint("name <> ''", name="named")),
            "ck_agents_named",
        ),
        (lambda m: setattr(m.tables["agents"].c.description, "nullable", False), "rebuild"),
    ],
)
def test_what_alembic_cannot_draft_is_told_and_the_draft_refuses_to_run(
    migrations: Path, change: Callable[[sa.MetaData], object], told: str
) -> None:
    """Nobody lands by accident what does not lead to the schema, or does so on some versions only."""
    draft, declared = _drafted(migrations, change)
    assert any(told in text for text in draft.missing)
    _land(draft)
    assert any("this draft is not finished" in problem for problem in check(migrations, declared))


def test_a_danger_to_data_is_told_and_wants_a_reason(migrations: Path) -> None:
    """The draft refuses to run until its author states why nobody misses the column."""

    def forget(m: sa.MetaData) -> None:
        table = m.tables["agents"]
        # What Alembic can draft: a column that no constraint names.
        table._columns.remove(table.c.icon)

    draft, declared = _drafted(migrations, forget)
    (told,) = draft.missing
    assert "drops the column agents.icon (D002)" in told
    text = draft.path.read_text(encoding="utf-8")
    assert "# Missing: migration" in text
    finished = "".join(
        line for line in text.splitlines(keepends=True) if "raise Runtime" not in line and "    #" not in line
    )
    finished = finished.replace(
        "\n\ndef upgrade", '\nLOSS = {"D002": "Nothing ever wrote it."}\n\n\ndef upgrade'
    )
    draft.path.write_text(finished, encoding="utf-8")
    _land(draft)
    assert check(migrations, declared) == []


def test_a_draft_is_not_entered_into_the_lock(migrations: Path) -> None:
    """It has to be read first."""
    before = (migrations / LOCK_FILE).read_bytes()
    _drafted(migrations, _add_much)
    assert (migrations / LOCK_FILE).read_bytes() == before


def test_where_nothing_differs_only_an_empty_draft_can_be_had(migrations: Path) -> None:
    """And only by saying so."""
    before = files_in(migrations)
    with pytest.raises(DorkError, match="nothing to draft") as refusal:
        draft_revision("mend names", empty=False, directory=migrations)
    assert refusal.value.code is ErrorCode.USAGE
    assert files_in(migrations) == before
    draft = draft_revision("mend names", empty=True, directory=migrations)
    _land(draft)
    assert check(migrations) == []


def test_an_installed_package_is_refused(tmp_path: Path) -> None:
    """Also one that lies in an environment within somebody's checkout."""
    (tmp_path / ".git").mkdir()
    for folder in ("lib/site-packages/dorkos/db/migrations", "src/other/src/dorkos/db/migrations"):
        directory = tmp_path / folder
        shutil.copytree(MIGRATIONS, directory)
        with pytest.raises(DorkError, match="not a git checkout") as refusal:
            draft_revision("more", empty=True, directory=directory)
        assert refusal.value.code is ErrorCode.USAGE
        assert not (directory / f"{NUMBER}_more.py").exists()


@pytest.mark.parametrize("message", ["", " . ", "日本", "x" * 81, 'say "x"', "back\\slash", "bell\a"])
def test_a_message_that_makes_no_migration_is_refused(migrations: Path, message: str) -> None:
    """It becomes the file's name and its docstring."""
    before = files_in(migrations)
    with pytest.raises(DorkError) as refusal:
        draft_revision(message, empty=True, directory=migrations)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert files_in(migrations) == before


def test_accents_are_left_out_of_the_name_and_kept_in_the_text(migrations: Path) -> None:
    """File names are plain; what people read is not."""
    draft = draft_revision("größere  Köpfe.", empty=True, directory=migrations)
    assert draft.path.name == f"{NUMBER}_groere_kopfe.py"
    assert '"""Größere Köpfe."""' in draft.path.read_text(encoding="utf-8")
