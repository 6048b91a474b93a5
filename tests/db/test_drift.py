"""Two catalogues: every difference that matters is seen, and spelling is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from dorkos.db.connections import migrating_postgres
from dorkos.db.doctor import examine_sqlite
from dorkos.db.drift import (
    Catalogue,
    catalogue,
    declared_catalogue,
    declared_sqlite,
    differences,
    live_differences,
)
from dorkos.db.engine import sqlite_driver
from dorkos.db.finding import Level
from dorkos.db.ledger import revisions
from dorkos.db.schema.metadata import NAMING
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Instant, Integer, Text
from dorkos.db.verify import verify_sqlite
from dorkos.testing import empty_postgres
from tests.db.conftest import Bench


@dataclass(frozen=True)
class Child:
    """A table, of which each test changes one part."""

    nullable: bool = False
    default: str | None = "a"
    instant: bool = True
    ondelete: str = "CASCADE"
    check: str = "word IN ('a', 'b')"
    check_name: str = "word"
    unique_key: bool = True
    index: tuple[str, ...] = ("word",)
    unique_index: bool = False
    where: str = "word = 'a'"
    autoincrement: bool = True
    strict: bool = True

    def declare(self) -> sa.MetaData:
        """It and its parent."""
        declared = sa.MetaData(naming_convention=NAMING)
        sa.Table("parent", declared, sa.Column("id", Text, primary_key=True), sqlite_strict=True)
        child = sa.Table(
            "child",
            declared,
            sa.Column("id", Integer, sa.Identity(), primary_key=True),
            sa.Column("word", Text, nullable=self.nullable, server_default=self.default),
            sa.Column("at", Instant) if self.instant else sa.Column("at", Integer),
            sa.Column("parent_id", Text, sa.ForeignKey("parent.id", ondelete=self.ondelete)),
            sa.CheckConstraint(self.check, name=self.check_name),
            sa.Index(
                "ix_child_word",
                *self.index,
                unique=self.unique_index,
                sqlite_where=sa.text(self.where),
                postgresql_where=sa.text(self.where),
            ),
            sqlite_autoincrement=self.autoincrement,
            sqlite_strict=self.strict,
        )
        if self.unique_key:
            child.append_constraint(sa.UniqueConstraint("word", "at"))
        return declared


def _with(change: Callable[[sa.Table], object]) -> sa.MetaData:
    declared = Child().declare()
    change(declared.tables["child"])
    return declared


CHANGES: dict[str, tuple[sa.MetaData, str]] = {
    "a column more": (_with(lambda t: t.append_column(sa.Column("extra", Text))), "child: column extra"),
    "nullable": (Child(nullable=True).declare(), "child: column word"),
    "no default": (Child(default=None).declare(), "child: column word"),
    "another default": (Child(default="b").declare(), "child: column word"),
    "another type": (Child(instant=False).declare(), "child: column at"),
    "another delete rule": (Child(ondelete="SET NULL").declare(), "parent_id"),
    "a changed check": (Child(check="word IN ('a', 'b', 'c')").declare(), "ck_child_word"),
    "a renamed check": (Child(check_name="other").declare(), "ck_child_other"),
    "no unique key": (Child(unique_key=False).declare(), "uq_child_word_at"),
    "a changed predicate": (Child(where="word = 'b'").declare(), "ix_child_word"),
    "other index columns": (Child(index=("word", "at")).declare(), "ix_child_word"),
    "an index that is unique": (Child(unique_index=True).declare(), "ix_child_word"),
    "an index more": (_with(lambda t: sa.Index("ix_more", t.c.at)), "index ix_more"),
}

ONLY_SQLITE: dict[str, tuple[sa.MetaData, str]] = {
    "not strict": (Child(strict=False).declare(), "child: kind"),
    "no autoincrement": (Child(autoincrement=False).declare(), "child: autoincrement"),
}


@pytest.mark.parametrize("change", [*CHANGES, *ONLY_SQLITE])
def test_sqlite_sees(change: str) -> None:
    """A single changed part is told, by the name of its table; both ways round."""
    changed, told = (CHANGES | ONLY_SQLITE)[change]
    before, after = declared_sqlite(Child().declare()), declared_sqlite(changed)
    for found in (differences(before, after), differences(after, before)):
        assert found
        assert all(text.startswith("child") for text in found)
        assert any(told in text for text in found)


def test_postgres_sees_every_change() -> None:
    """The same changes, in the server's own words."""
    with empty_postgres() as url, migrating_postgres(url) as connection, connection.begin() as transaction:
        before = declared_catalogue(Child().declare(), connection)
        for change, (changed, told) in CHANGES.items():
            found = differences(before, declared_catalogue(changed, connection))
            assert any(told in text for text in found), change
        assert catalogue(connection) == {}, "comparing leaves nothing behind"
        transaction.rollback()


def _from_sql(*statements: str) -> Catalogue:
    engine = sa.create_engine("sqlite://", module=sqlite_driver())
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        found = catalogue(connection)
    engine.dispose()
    return found


def test_spelling_is_no_difference() -> None:
    """Case, quotes, spaces, comments, where a key is written, and '0' for 0 mean the same to SQLite."""
    assert (
        differences(
            _from_sql(
                "CREATE TABLE `a` (`id` text PRIMARY KEY NOT NULL, `n` integer DEFAULT 0, CHECK (`n`>0))"
            ),
            _from_sql(
                "CREATE TABLE a (id TEXT NOT NULL, \"n\" INTEGER DEFAULT '0', -- a remark, with a comma\n"
                " CONSTRAINT pk_a PRIMARY KEY (id), CHECK ( N > 0 ))"
            ),
        )
        == []
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("CREATE TABLE a (x PRIMARY KEY)", "CREATE TABLE a (x PRIMARY KEY) WITHOUT ROWID"),
        ("CREATE TABLE a (x TEXT, CHECK (x = 'A'))", "CREATE TABLE a (x TEXT, CHECK (x = 'a'))"),
        (
            "CREATE TABLE a (x TEXT, y TEXT, CHECK (x > (y)))",
            "CREATE TABLE a (x TEXT, y TEXT, CHECK (y > (x)))",
        ),
        ("CREATE TABLE a (x TEXT COLLATE NOCASE)", "CREATE TABLE a (x TEXT)"),
        ("CREATE TABLE a (x TEXT, y AS (x))", "CREATE TABLE a (x TEXT, y)"),
        ("CREATE TABLE a (x REFERENCES a DEFERRABLE INITIALLY DEFERRED)", "CREATE TABLE a (x REFERENCES a)"),
        ("CREATE TABLE a (x, y, PRIMARY KEY (x, y))", "CREATE TABLE a (x, y, PRIMARY KEY (y, x))"),
        ("CREATE VIEW a AS SELECT 1", "CREATE VIEW a AS SELECT 2"),
    ],
)
def test_what_only_the_stored_text_tells_is_seen(left: str, right: str) -> None:
    """Facts that need the CREATE statement itself."""
    assert differences(_from_sql(left), _from_sql(right))


def test_a_trigger_is_seen() -> None:
    """A trigger changes what a table does."""
    table = "CREATE TABLE a (x TEXT)"
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM a; END"
    assert differences(_from_sql(table, trigger), _from_sql(table)) == [
        "a: trigger t (create trigger t after insert on a begin delete from a ; end) is only in a"
    ]


@pytest.mark.parametrize(
    "made",
    [
        ["CREATE VIRTUAL TABLE notes USING fts5(body)", "INSERT INTO notes VALUES ('x')"],
        ["CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)"],
        [
            'CREATE TABLE "a""b c" (x UNIQUE REFERENCES "a""b c" (x))',
            'CREATE INDEX "i""x" ON "a""b c" (x)',
        ],
        ["CREATE VIEW broken AS SELECT * FROM nowhere"],
        ["CREATE TABLE other (x)", "CREATE TRIGGER t AFTER INSERT ON OTHER BEGIN DELETE FROM other; END"],
        [
            "PRAGMA writable_schema = ON",
            "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING none(a)')",
        ],
    ],
    ids=["a search index", "another virtual one", "quotes", "a broken view", "a trigger", "a missing module"],
)
def test_tables_of_others_stop_nothing(bench: Bench, made: list[str]) -> None:
    """Not a start, not a migration with its snapshot, and neither doctor nor verification finds fault."""
    bench.copy_revisions(len(revisions()) - 1)
    bench.migrate()
    with bench.raw() as connection:
        for statement in made:
            connection.execute(statement)
    bench.copy_revisions(len(revisions()))
    migrating = bench.migrate(declared=metadata)
    assert migrating.snapshot is not None
    assert not bench.migrate(declared=metadata).applied
    with bench.raw() as connection:
        connection.execute("CREATE TABLE later (x)")
    assert verify_sqlite(bench.path) == []
    found = list(examine_sqlite(bench.path, backups=bench.backups, now=bench.clock.now()))
    assert Level.FAULT not in {finding.level for finding in found}, found
    bench.migrate(declared=metadata)


def test_a_trigger_is_told_of_its_table_however_that_was_written() -> None:
    """SQLite keeps the name as it stood in the statement."""
    table = "CREATE TABLE a (x TEXT)"
    trigger = "CREATE TRIGGER t AFTER INSERT ON A BEGIN DELETE FROM a; END"
    assert "a: trigger t" in differences(_from_sql(table, trigger), _from_sql(table))[0]


def test_tables_on_one_side_are_named() -> None:
    """Which side has it is part of the sentence."""
    assert differences(
        _from_sql("CREATE TABLE x (a)"), _from_sql("CREATE TABLE y (a)"), names=("old", "new")
    ) == [
        "table x is only in old",
        "table y is only in new",
    ]


def test_the_declared_schema_equals_itself_on_both_engines() -> None:
    """No part of our schema is spelled in a way that the comparison trips over."""
    engine = sa.create_engine("sqlite://", module=sqlite_driver())
    with engine.connect() as connection:
        metadata.create_all(connection)
        assert live_differences(connection, metadata) == []
    engine.dispose()
    with empty_postgres() as url, migrating_postgres(url) as connection, connection.begin():
        metadata.create_all(connection)
        assert live_differences(connection, metadata) == []
