"""The runner: what it makes, what it refuses, and that a refusal or a failure changes nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from dorkos.db.apply import apply_pending
from dorkos.db.connections import migrating_sqlite
from dorkos.db.engine import APPLICATION_ID
from dorkos.db.ledger import revisions
from dorkos.db.migrate import Plan, migrate_sqlite, status_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError, ErrorCode
from tests.db.conftest import Bench

ALL = [revision.id for revision in revisions()]

# SHA-256 of the sqlite_schema of a dork.db that DorkOS for Node wrote, without its own ledger.
_NODE_SCHEMA = "bdd29144a34a8dcf0271aa70567a35be4a62a1875817b7d64d1b1b98862a3a9e"


def _insert_ledger(name: str, version: str = "9.9.9") -> str:
    return f"INSERT INTO schema_ledger VALUES ('{name}', 'x', '2026-01-01T00:00:00.000Z', '{version}', 1)"


def test_a_new_database_gets_every_migration_once(bench: Bench) -> None:
    """The first call applies all, marks the file and names its history; the second changes no byte."""
    report = bench.migrate(declared=metadata)
    assert [applied.id for applied in report.applied] == ALL
    assert report.snapshot is None
    assert bench.rows("PRAGMA application_id") == [(APPLICATION_ID,)]
    assert bench.rows("PRAGMA user_version") == [(0,)]
    ((epoch,),) = bench.rows("SELECT value FROM system_state WHERE key = 'epoch'")
    assert len(epoch) == 12
    before = bench.files()
    assert bench.migrate(declared=metadata).applied == ()
    assert bench.files() == before


def test_the_first_three_are_the_lineage_to_the_letter(bench: Bench) -> None:
    """After 0002 the schema text equals that of a file written by DorkOS for Node."""
    bench.copy_revisions(3)
    bench.migrate()
    rows = bench.rows(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema "
        "WHERE tbl_name <> 'schema_ledger' ORDER BY type, name"
    )
    assert hashlib.sha256(repr(rows).encode()).hexdigest() == _NODE_SCHEMA


def test_the_indexes_of_a_new_table_are_made_by_name() -> None:
    """SQLAlchemy would leave their order to chance, and SQLite plans by it: installations are to be alike."""
    names = [f"{letter}_index" for letter in "hdafbgce"]
    columns = [sa.Column(name, sa.Integer) for name in names]
    table = sa.Table("t", sa.MetaData(), *columns, *(sa.Index(f"ix_{name}", name) for name in names))
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.metadata.create_all(connection)
        indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY rowid"
        made = connection.exec_driver_sql(indexes)
        assert list(made.scalars()) == sorted(f"ix_{name}" for name in names)
    engine.dispose()


def _edit(bench: Bench) -> None:
    with (bench.directory / f"{ALL[1]}.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")


def _future(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute(_insert_ledger("9999_future"))


def _unknown(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute(_insert_ledger("0001_other"))


def _gap(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute(f"DELETE FROM schema_ledger WHERE id = '{ALL[1]}'")


def _inserted(bench: Bench) -> None:
    bench.add_revision("0001_slipped_in", "pass")


def _renamed(bench: Bench) -> None:
    (bench.directory / f"{ALL[2]}.py").rename(bench.directory / "0002_renamed.py")


def _removed(bench: Bench) -> None:
    (bench.directory / f"{ALL[1]}.py").unlink()


@pytest.mark.parametrize(
    ("disturb", "code", "named"),
    [
        (_edit, ErrorCode.MIGRATION_CHANGED, ALL[1]),
        (_future, ErrorCode.DATABASE_NEWER, "9999_future"),
        (_unknown, ErrorCode.MIGRATION_MISSING, "0001_other"),
        (_gap, ErrorCode.MIGRATION_MISSING, ALL[1]),
        (_inserted, ErrorCode.MIGRATION_MISSING, "0001_slipped_in"),
        (_renamed, ErrorCode.MIGRATION_MISSING, ALL[2]),
        (_removed, ErrorCode.MIGRATION_MISSING, ALL[1]),
    ],
)
def test_a_ledger_that_tells_another_story_is_refused(
    bench: Bench, disturb: Callable[[Bench], None], code: ErrorCode, named: str
) -> None:
    """Edited, newer, missing, out of order or renamed: refused by name, and no byte changes."""
    bench.migrate(declared=metadata)
    disturb(bench)
    before = bench.files()
    for attempt in (bench.migrate, lambda: status_sqlite(bench.path, plan=Plan(bench.directory))):
        with pytest.raises(DorkError) as refusal:
            attempt()
        assert refusal.value.code is code
        assert named in refusal.value.message
        assert refusal.value.hint
    assert bench.files() == before


def test_a_newer_database_names_the_version_that_wrote_it(bench: Bench) -> None:
    """The way out is in the refusal: which DorkOS to install."""
    bench.migrate()
    _future(bench)
    with pytest.raises(DorkError) as refusal:
        bench.migrate()
    assert "9.9.9" in refusal.value.message
    assert refusal.value.hint is not None
    assert "9.9.9" in refusal.value.hint


def test_line_ends_are_no_edit(bench: Bench) -> None:
    """A checkout with CRLF has the same checksums."""
    bench.migrate()
    for path in bench.directory.glob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert bench.migrate().applied == ()


def _foreign(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute("CREATE TABLE notes (id)")


def _marked_by_another(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute("PRAGMA application_id = 77")


def _lineage(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute("CREATE TABLE pulse_runs (id)")
        connection.execute("CREATE TABLE __drizzle_migrations (id, hash, created_at)")


def _lineage_in_its_log(bench: Bench) -> None:
    """Committed rows that live only in the write-ahead log, as after a crash."""
    script = (
        "import os, sys\n"
        "from dorkos.db.engine import sqlite_driver\n"
        "connection = sqlite_driver().connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode = WAL')\n"
        "connection.execute('CREATE TABLE __drizzle_migrations (id, hash, created_at)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(bench.path)], check=True)
    bench.path.with_name("dork.db-shm").unlink()


def _garbage(bench: Bench) -> None:
    bench.path.write_bytes(b"these are not the pages of a database" * 200)


def _truncated(bench: Bench) -> None:
    bench.migrate()
    bench.path.write_bytes(bench.path.read_bytes()[:-4096])


def _damaged(bench: Bench) -> None:
    bench.migrate()
    content = bytearray(bench.path.read_bytes())
    content[100:200] = b"\xff" * 100
    bench.path.write_bytes(content)


def _empty_beside_log(bench: Bench) -> None:
    bench.path.touch()
    bench.path.with_name("dork.db-wal").write_bytes(b"pages")


def _log_alone(bench: Bench) -> None:
    bench.path.with_name("dork.db-wal").write_bytes(b"pages")


def _mark_without_ledger(bench: Bench) -> None:
    with bench.raw() as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE agents (id)")


def _a_directory(bench: Bench) -> None:
    bench.path.mkdir()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_foreign, ErrorCode.DATABASE_FOREIGN),
        (_marked_by_another, ErrorCode.DATABASE_FOREIGN),
        (_lineage, ErrorCode.DATABASE_LINEAGE),
        (_lineage_in_its_log, ErrorCode.DATABASE_LINEAGE),
        (_garbage, ErrorCode.DATABASE_CORRUPT),
        (_truncated, ErrorCode.DATABASE_CORRUPT),
        (_damaged, ErrorCode.DATABASE_CORRUPT),
        (_empty_beside_log, ErrorCode.DATABASE_CORRUPT),
        (_log_alone, ErrorCode.DATABASE_CORRUPT),
        (_mark_without_ledger, ErrorCode.DATABASE_CORRUPT),
        (_a_directory, ErrorCode.DATABASE_UNREACHABLE),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(
    bench: Bench, make: Callable[[Bench], None], code: ErrorCode
) -> None:
    """Neither asking for the status nor migrating changes a byte or leaves a file beside it."""
    make(bench)
    before = bench.files()
    for attempt in (bench.migrate, lambda: status_sqlite(bench.path)):
        with pytest.raises(DorkError) as refusal:
            attempt()
        assert refusal.value.code is code
        assert refusal.value.hint
    assert bench.files() == before


@pytest.mark.parametrize("log", [None, b""])
def test_a_zero_byte_file_is_a_new_database(bench: Bench, log: bytes | None) -> None:
    """Nothing is in it and no log with content lies beside it, so nothing can be lost."""
    bench.path.touch()
    if log is not None:
        bench.path.with_name("dork.db-wal").write_bytes(log)
    assert len(bench.migrate(declared=metadata).applied) == len(ALL)


def test_a_killed_newborn_is_recognised_by_its_log(bench: Bench) -> None:
    """Our mark may still be in the log alone; such a file is ours and goes on where it stopped."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dorkos.clock import SystemClock\n"
        "from dorkos.db.apply import apply_pending\n"
        "from dorkos.db.connections import migrating_sqlite\n"
        "from dorkos.db.ledger import revisions\n"
        "with migrating_sqlite(Path(sys.argv[1])) as connection:\n"
        "    apply_pending(connection, revisions()[:2], clock=SystemClock(), say=print)\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(bench.path)], check=True, stdout=subprocess.DEVNULL)
    assert bench.path.stat().st_size == 4096
    assert list(status_sqlite(bench.path).pending) == ALL[2:]
    assert [applied.id for applied in bench.migrate(declared=metadata).applied] == ALL[2:]


def test_status_makes_no_file(bench: Bench) -> None:
    """Asking about a database that is not there says that all is pending, and leaves it not there."""
    status = status_sqlite(bench.path)
    assert status.applied == ()
    assert list(status.pending) == ALL
    assert bench.files() == {}


def test_a_missing_folder_is_explained(bench: Bench) -> None:
    """The runner makes no folders; whoever prepares the data directory does."""
    with pytest.raises(DorkError) as refusal:
        migrate_sqlite(bench.home / "no" / "dork.db", backups=bench.backups, clock=bench.clock)
    assert refusal.value.code is ErrorCode.HOME_UNWRITABLE


FAILING = {
    "raises between statements": (
        """
run = step.connection.exec_driver_sql
run('CREATE TABLE half (id)')
run('UPDATE pulse_schedules SET name = NULL')""",
        "NOT NULL",
    ),
    "loses rows": ("step.connection.exec_driver_sql('DELETE FROM pulse_runs')", "pulse_runs had 1 rows"),
    "drops a table with rows": (
        "step.connection.exec_driver_sql('DROP TABLE pulse_runs')",
        "pulse_runs had 1 rows",
    ),
    "breaks a relation": (
        "step.connection.exec_driver_sql('UPDATE pulse_runs SET schedule_id = id')",
        "pulse_runs -> pulse_schedules: 1",
    ),
    "is no Python": ("this is no Python", "SyntaxError"),
}


def _fill(bench: Bench) -> None:
    at = "2026-01-01T00:00:00.000Z"
    with bench.raw() as connection:
        connection.execute(
            "INSERT INTO pulse_schedules (id, name, prompt, decided_until, created_at, updated_at) "
            f"VALUES ('S', 'n', 'p', '{at}', '{at}', '{at}')"
        )
        connection.execute(
            "INSERT INTO pulse_runs (id, schedule_id, status, prompt, chain_id, created_at) "
            f"VALUES ('R', 'S', 'completed', 'p', 'R', '{at}')"
        )


@pytest.mark.parametrize("case", FAILING)
def test_a_migration_that_fails_leaves_no_trace(bench: Bench, case: str) -> None:
    """It is rolled back whole, with its ledger row; the rows, the schema and the version stay."""
    bench.migrate(declared=metadata)
    _fill(bench)
    before = bench.rows("SELECT * FROM sqlite_schema"), bench.rows("SELECT * FROM pulse_runs")
    body, told = FAILING[case]
    bench.add_revision("0098_good", "step.connection.exec_driver_sql('CREATE TABLE good (id)')")
    path = bench.add_revision("0099_bad", body)
    with pytest.raises(DorkError) as refusal:
        bench.migrate()
    assert refusal.value.code is ErrorCode.MIGRATION_FAILED
    assert "0099_bad" in refusal.value.message
    assert told in refusal.value.message
    assert bench.rows("SELECT id FROM schema_ledger ORDER BY id DESC")[0] == ("0098_good",)
    with bench.raw() as connection:
        connection.execute("DROP TABLE good")
    assert (bench.rows("SELECT * FROM sqlite_schema"), bench.rows("SELECT * FROM pulse_runs")) == before
    path.unlink()
    bench.add_revision("0099_mended", "pass")
    assert [applied.id for applied in bench.migrate().applied] == ["0099_mended"]


@pytest.mark.parametrize("stated", ['"history of a test"', '{"D003": "history of a test"}'])
def test_a_stated_reason_allows_a_loss(bench: Bench, stated: str) -> None:
    """A revision that declares LOSS may lower a row count, and the report shows it."""
    bench.migrate(declared=metadata)
    _fill(bench)
    body = "step.connection.exec_driver_sql('DELETE FROM pulse_runs')"
    bench.add_revision("0099_purge", body, head=f"LOSS = {stated}")
    (applied,) = bench.migrate().applied
    assert [(row.before, row.after) for row in applied.rows if row.table == "pulse_runs"] == [(1, 0)]


def test_a_reason_for_something_else_excuses_no_lost_row(bench: Bench) -> None:
    """Narrowing a column is no leave to delete."""
    bench.migrate(declared=metadata)
    _fill(bench)
    body = "step.connection.exec_driver_sql('DELETE FROM pulse_runs')"
    bench.add_revision("0099_purge", body, head='LOSS = {"D002": "a column", "D004": "narrower"}')
    with pytest.raises(DorkError, match="pulse_runs had 1 rows"):
        bench.migrate()
    assert bench.rows("SELECT id FROM pulse_runs") == [("R",)]


def test_rebuilding_a_parent_keeps_its_children(bench: Bench) -> None:
    """Foreign keys are off before the transaction begins, else dropping the schedules deletes the runs."""
    bench.migrate(declared=metadata)
    _fill(bench)
    body = """
table = metadata.tables['pulse_schedules']
with rebuilding(step, 'pulse_schedules') as old:
    table.create(step.connection)
    names = ', '.join(column.name for column in table.columns)
    step.connection.exec_driver_sql(
        f'INSERT INTO pulse_schedules ({names}) SELECT {names} FROM aside_pulse_schedules'
    )"""
    head = "from dorkos.db.rebuild import rebuilding\nfrom dorkos.db.schema.tables import metadata"
    bench.add_revision("0099_rebuild", body, head=head)
    bench.migrate(declared=metadata)
    assert bench.rows("SELECT id, schedule_id FROM pulse_runs") == [("R", "S")]


def test_foreign_keys_are_off_during_and_on_after(bench: Bench) -> None:
    """A revision sees them off; whoever goes on with the connection sees them on, also after a failure."""
    bench.copy_revisions(1)
    bench.add_revision(
        "0001_look", "step.note(str(step.connection.exec_driver_sql('PRAGMA foreign_keys').scalar()))"
    )
    with migrating_sqlite(bench.path) as connection:
        applied = apply_pending(connection, revisions(bench.directory), clock=bench.clock, say=print)
        assert applied[1].notes == ("0",)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        connection.rollback()
        bench.add_revision("0002_fails", "raise RuntimeError('no')")
        with pytest.raises(DorkError):
            apply_pending(connection, revisions(bench.directory), clock=bench.clock, say=print)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


_PROCESS = """
import sys
from pathlib import Path
import sqlalchemy as sa
from dorkos.clock import SystemClock
from dorkos.db.migrate import Plan, migrate_sqlite
path, backups, directory = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
report = migrate_sqlite(path, backups=backups, clock=SystemClock(), plan=Plan(directory, sa.MetaData()))
print(len(report.applied))
"""


def _processes(bench: Bench, count: int) -> list[int]:
    """Migrate in `count` processes that begin together. Returns how many migrations each applied."""
    arguments = [sys.executable, "-c", _PROCESS, str(bench.path), str(bench.backups), str(bench.directory)]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    return [
        int(answer) if process.returncode == 0 else -process.returncode
        for process, answer in zip(processes, answers, strict=True)
    ]


def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_version(bench: Bench) -> None:
    """The process dies inside 0099 after it wrote; the next start finds the state before 0099."""
    bench.migrate(declared=metadata)
    _fill(bench)
    bench.add_revision(
        "0099_killed",
        "import os\n"
        "step.connection.exec_driver_sql('DELETE FROM pulse_runs')\n"
        "step.connection.exec_driver_sql('CREATE TABLE half (id)')\n"
        "os._exit(9)",
    )
    assert _processes(bench, 1) == [-9]
    assert bench.rows("SELECT id FROM pulse_runs") == [("R",)]
    assert bench.rows("SELECT name FROM sqlite_schema WHERE name = 'half'") == []
    assert list(status_sqlite(bench.path, plan=Plan(bench.directory)).pending) == ["0099_killed"]


def test_two_processes_apply_each_migration_once(bench: Bench) -> None:
    """Both start on one missing file together, both end well, and together they apply each once."""
    applied = _processes(bench, 2)
    assert min(applied) >= 0
    assert sum(applied) == len(ALL)
    assert len(bench.rows("SELECT * FROM schema_ledger")) == len(ALL)


def test_a_start_with_nothing_pending_imports_no_migration_tool(bench: Bench) -> None:
    """Neither Alembic nor a revision is loaded when there is nothing to apply."""
    migrate_sqlite(bench.path, backups=bench.backups, clock=bench.clock)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dorkos.clock import SystemClock\n"
        "from dorkos.db.migrate import migrate_sqlite\n"
        "path = Path(sys.argv[1])\n"
        "assert not migrate_sqlite(path, backups=path.parent, clock=SystemClock()).applied\n"
        "print([name for name in sys.modules if 'alembic' in name or '0000' in name])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bench.path)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_a_schema_changed_by_hand_is_refused(bench: Bench) -> None:
    """The next start names the column; putting it back is enough."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("ALTER TABLE agents ADD COLUMN nickname TEXT")
    with pytest.raises(DorkError) as refusal:
        bench.migrate(declared=metadata)
    assert refusal.value.code is ErrorCode.DATABASE_DRIFT
    assert "agents: column nickname" in refusal.value.message
    with bench.raw() as connection:
        connection.execute("ALTER TABLE agents DROP COLUMN nickname")
    bench.migrate(declared=metadata)


def test_a_table_of_another_tool_is_no_drift(bench: Bench) -> None:
    """Replication tools keep their tables beside ours."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("CREATE TABLE _replica (id)")
    bench.migrate(declared=metadata)


def test_progress_is_told(bench: Bench) -> None:
    """A person who waits sees each step by name."""
    told: list[str] = []
    migrate_sqlite(bench.path, backups=bench.backups, clock=bench.clock, progress=told.append)
    assert told == [f"Applying {name}" for name in ALL]


def test_a_file_that_cannot_be_written_is_refused_before_sqlite_leaves_anything() -> None:
    """Side files with the mode of the file would go on refusing after it was mended."""
    code = """
import os, sys
from pathlib import Path
import dorkos.testing
from dorkos.clock import SystemClock
from dorkos.db.migrate import migrate_sqlite
from dorkos.errors import DorkError
folder = Path(sys.argv[1])
dorkos.testing.create_sqlite_file(folder / "dork.db")
(folder / "dork.db").chmod(0o444)
if os.geteuid() == 0:
    os.chown(folder, 65534, 65534)
    os.chown(folder / "dork.db", 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
before = sorted(folder.iterdir())
try:
    migrate_sqlite(folder / "dork.db", backups=folder / "backups", clock=SystemClock())
except DorkError as refusal:
    print(refusal.code, sorted(folder.iterdir()) == before)
"""
    with tempfile.TemporaryDirectory(prefix="dorkos-readonly-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
        )

    assert done.stdout.strip() == "database_readonly True", done.stderr
