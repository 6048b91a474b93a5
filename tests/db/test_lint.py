"""Each danger to data has a code, is found, names its subject, and needs a stated reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dorkos.db.ledger import Revision
from dorkos.db.lint import DANGERS, problems
from dorkos.db.replay import replay
from tests.db.conftest import Bench

# The first migration; the second, after it, is the one that is judged.
_BEGIN = """
run = step.connection.exec_driver_sql
run("CREATE TABLE parents (id TEXT PRIMARY KEY NOT NULL, colour TEXT, size INTEGER, "
    "CONSTRAINT ck_parents_colour CHECK (colour IN ('red', 'blue')))")
run("CREATE TABLE children (id TEXT PRIMARY KEY NOT NULL, parent_id TEXT, weight TEXT)")
run("CREATE TABLE lonely (id TEXT)")
run("CREATE TABLE friends (id TEXT, parent_id TEXT REFERENCES parents (id))")
"""


def _parents(*, size: str = "size INTEGER", colours: str = "'red', 'blue'") -> str:
    check = f"CONSTRAINT ck_parents_colour CHECK (colour IN ({colours}))"
    return _rebuilt(
        "parents", ", ".join(filter(None, ["id TEXT PRIMARY KEY NOT NULL, colour TEXT", size, check]))
    )


def _children(*, parent: str = "", weight: str = "") -> str:
    return _rebuilt(
        "children", f"id TEXT PRIMARY KEY NOT NULL, parent_id TEXT {parent}, weight TEXT {weight}"
    )


def _rebuilt(table: str, columns: str, options: str = "") -> str:
    """Rebuild a table with the helper, which hides the drop: only the catalogues show what became of it."""
    return f"""
with rebuilding(step, "{table}"):
    run("CREATE TABLE {table} ({columns}) {options}")"""


_SOME = "a table whose name is computed"
# The body of a migration, the code, and the subject that the message names.
_DANGEROUS = [
    ("run('DROP TABLE lonely')", "D001", "lonely"),
    ("run('drop table if exists `lonely`')", "D001", "lonely"),
    ("step.op.drop_table('lonely')", "D001", "lonely"),
    ("run(' '.join(['DROP', 'TABLE', 'lonely']))", "D001", "lonely"),
    ("if False: run(f'DROP TABLE {table}')", "D001", _SOME),
    ("if False: sa.Table('lonely', sa.MetaData()).drop(step.connection)", "D001", _SOME),
    ("run('ALTER TABLE parents DROP COLUMN size')", "D002", "parents.size"),
    ("run('ALTER TABLE parents DROP size')", "D002", "parents.size"),
    ("step.op.drop_column('parents', 'size')", "D002", "parents.size"),
    (_parents(size=""), "D002", "parents.size"),
    ("run('DELETE FROM lonely WHERE id = 1')", "D003", "lonely"),
    ("run('delete  from lonely')", "D003", "lonely"),
    ("if step.dialect == 'postgresql': run('TRUNCATE lonely')", "D003", "lonely"),
    ("run('INSERT OR REPLACE INTO lonely VALUES (1)')", "D003", "lonely"),
    ("step.connection.execute(sa.table('lonely').delete())", "D003", _SOME),
    (_parents(size="size TEXT"), "D004", "parents.size"),
    (_parents(colours="'red'"), "D004", "parents by the CHECK ck_parents_colour"),
    (_children(weight="CHECK (weight <> '')"), "D004", "children by the CHECK weight <> ''"),
    (_rebuilt("lonely", "id TEXT", "STRICT"), "D004", "lonely"),
    ("if False: step.op.alter_column('parents', 'size', nullable=False)", "D004", "parents.size"),
    (_parents(size="size INTEGER NOT NULL"), "D005", "parents.size"),
    ("run('PRAGMA foreign_keys = OFF')", "D006", ""),
    ("run('pragma defer_foreign_keys=1')", "D006", ""),
    ("run('PRAGMA writable_schema = 1')", "D006", ""),
    ("run('ALTER TABLE lonely RENAME TO alone')", "D007", "lonely"),
    ("run('ALTER TABLE parents RENAME COLUMN size TO height')", "D007", "parents.size"),
    ("run('ALTER TABLE parents RENAME size TO height')", "D007", "parents.size"),
    ("step.op.rename_table('lonely', 'alone')", "D007", "lonely"),
    ("if False: step.op.alter_column('parents', 'size', new_column_name='height')", "D007", "parents.size"),
    ("run('CREATE UNIQUE INDEX ix ON parents (size)')", "D009", "parents"),
    ("run('CREATE UNIQUE INDEX ix ON parents (size) WHERE size > 5')", "D009", "parents"),
    (_children(parent="UNIQUE"), "D009", "children"),
    (_children(parent="REFERENCES parents (id)"), "D009", "children"),
    (_rebuilt("lonely", "id TEXT PRIMARY KEY"), "D009", "lonely"),
    ("from dorkos.db.schema.tables import metadata", "D010", "dorkos.db.schema.tables"),
    ("import dorkos.vocabulary", "D010", "dorkos.vocabulary"),
    ("from dorkos import events", "D010", "dorkos.events"),
]

_HARMLESS = [
    "run('CREATE TABLE more (id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL UNIQUE)')",
    "run('ALTER TABLE parents ADD COLUMN shape TEXT')",
    "run(\"ALTER TABLE parents ADD COLUMN shape TEXT NOT NULL DEFAULT '' CHECK (shape <> 'x')\")",
    "run('CREATE INDEX ix ON parents (size)')",
    "run('CREATE UNIQUE INDEX ix ON parents (size, id)')",
    "run('ALTER TABLE children ADD COLUMN other_id TEXT REFERENCES parents (id)')",
    "run('UPDATE parents SET size = 1')  # Not DELETE FROM parents.",
    '"""This drops nothing: DROP TABLE parents."""',
    _parents(),
    _parents(colours="'blue', 'green', 'red'"),
    _rebuilt("friends", "id TEXT, parent_id TEXT REFERENCES parents (id) ON DELETE CASCADE"),
    "from dorkos.db.types import Text\nfrom dorkos.ids import new_id",
]


def _problems(bench: Bench, body: str, *, head: str = "") -> list[str]:
    bench.copy_revisions(0)
    bench.add_revision("0000_begin", _BEGIN)
    path = bench.add_revision(
        "0001_next",
        f"run = step.connection.exec_driver_sql\n{body.strip()}",
        head=f"from dorkos.db.rebuild import rebuilding\n{head}",
    )
    before, after = replay(bench.directory)[1:]
    return problems(Revision("0001_next", path, ""), before, after)


@pytest.mark.parametrize(("body", "code", "subject"), _DANGEROUS)
def test_a_danger_is_told_with_its_code_and_subject(bench: Bench, body: str, code: str, subject: str) -> None:
    """One sentence: the migration, what it does to what, the code, and what to do."""
    (problem,) = _problems(bench, body)
    assert problem.startswith(f"migration 0001_next {DANGERS[code].does.format(subject)} ({code}): ")
    assert DANGERS[code].instead in problem


@pytest.mark.parametrize(("body", "code", "subject"), _DANGEROUS)
def test_a_stated_reason_excuses_what_can_be_right(bench: Bench, body: str, code: str, subject: str) -> None:
    """For that code, or for all; another code's reason excuses nothing, and three codes have no excuse."""
    other = "D001" if code != "D001" else "D002"
    assert _problems(bench, body, head=f'LOSS = {{"{other}": "nobody reads it"}}')
    for head in (f'LOSS = {{"{code}": "nobody reads it"}}', 'LOSS = "nobody reads it"'):
        assert (_problems(bench, body, head=head) == []) is DANGERS[code].excusable


@pytest.mark.parametrize("body", _HARMLESS)
def test_what_adds_or_widens_is_no_danger(bench: Bench, body: str) -> None:
    """Nothing to state for what no row can lose by."""
    assert _problems(bench, body) == []


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ('""', "must state LOSS as a text"),
        ("{}", "must state LOSS as a text"),
        ("None", "must state LOSS as a text"),
        ("' '.join(['a'])", "must state LOSS as a text"),
        ('{"D003": " "}', "states no reason for D003"),
        ('{"D099": "why"}', "states a reason for D099, which cannot be excused"),
        ('{"D006": "why"}', "states a reason for D006, which cannot be excused"),
    ],
)
def test_a_reason_has_to_be_one(bench: Bench, stated: str, told: str) -> None:
    """An empty text, or a reason for what does not exist, is a problem of its own and excuses nothing."""
    wrong, danger = _problems(bench, "run('DELETE FROM lonely')", head=f"LOSS = {stated}")
    assert told in wrong
    assert "(D003)" in danger


def test_what_is_no_python_is_told(bench: Bench) -> None:
    """The text that cannot be read is not passed over."""
    path = bench.add_revision("9999_broken", "this is no Python")
    (problem,) = problems(Revision("9999_broken", path, ""), None, None)
    assert "9999_broken is not Python that can be read" in problem


def test_every_code_has_an_example() -> None:
    """D008, an edited file, needs the lock and is shown in test_check."""
    assert {code for _, code, _ in _DANGEROUS} | {"D008"} == set(DANGERS)


def test_every_code_is_documented() -> None:
    """With what it is about, and whether a reason helps."""
    page = (Path(__file__).parents[2] / "docs" / "database.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (D\d{3}) \| (\w+) .* \| (.*) \|$", page, re.MULTILINE)
    assert [(code, verb, reason) for code, verb, reason in rows] == [
        (code, danger.does.split()[0], "is needed" if danger.excusable else "does not help")
        for code, danger in DANGERS.items()
    ]
