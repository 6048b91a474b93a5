"""A PostgreSQL that is set up otherwise than we need: told with what to do, and nothing is cut short."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dorkos.clock import SystemClock
from dorkos.db import connections
from dorkos.db.connections import migrating_postgres
from dorkos.db.engine import postgres_engine
from dorkos.db.ledger import revisions
from dorkos.db.migrate import Plan, migrate_postgres, status_postgres
from dorkos.db.verify import verify_postgres
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.testing import empty_postgres
from tests.db.conftest import Bench


def migrate(url: str) -> object:
    """What a start does first."""
    return migrate_postgres(url, clock=SystemClock())


def run(url: str, *statements: str) -> None:
    """Run statements as the owner of everything."""
    with migrating_postgres(url) as connection, connection.begin():
        for statement in statements:
            connection.exec_driver_sql(statement)


def in_path(url: str, path: str) -> str:
    """The URL with a search_path of its own."""
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={path}')}"


def as_stranger(url: str) -> str:
    """The URL of a role that was just made and may nothing in particular."""
    role = f"stranger_{new_id().lower()}"
    run(url, f"CREATE ROLE {role} LOGIN")
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def refusal(ask: Callable[[str], object], url: str) -> DorkError:
    """What it is refused with; it says what to do."""
    with pytest.raises(DorkError) as refused:
        ask(url)
    assert refused.value.hint
    return refused.value


def test_a_migration_may_take_longer_than_a_statement_while_serving(bench: Bench) -> None:
    """It is the one that rewrites a table of years; a server's own statements are cut short."""
    bench.copy_revisions(1)
    bench.add_revision(
        "0001_look", "step.note(step.connection.exec_driver_sql('SHOW statement_timeout').scalar_one())"
    )
    with empty_postgres() as url:
        report = migrate_postgres(url, clock=bench.clock, plan=Plan(bench.directory, sa.MetaData()))
        assert report.applied[-1].notes == ("0",)
        engine = postgres_engine(url)
        with engine.connect() as serving:
            assert serving.exec_driver_sql("SHOW statement_timeout").scalar_one() == "1min"
        engine.dispose()


@pytest.mark.parametrize(
    ("hold", "ask"),
    [
        (f"SELECT pg_advisory_lock({0x444F524B_0002})", migrate),
        ("LOCK TABLE schema_ledger IN ACCESS EXCLUSIVE MODE", status_postgres),
    ],
)
def test_waiting_for_another_is_told_as_busy(
    hold: str, ask: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a server that does not answer."""
    with empty_postgres() as url:
        if ask is status_postgres:
            migrate(url)
        with migrating_postgres(url) as other, other.begin():
            other.exec_driver_sql(hold)
            monkeypatch.setattr(connections, "WAIT_MS", 50)
            refused = refusal(ask, url)
        assert refused.code is ErrorCode.DATABASE_BUSY
        assert "Another server" in refused.message


@pytest.mark.parametrize("ask", [migrate, status_postgres])
def test_a_role_without_rights_on_our_tables_is_told_what_to_grant(ask: Callable[[str], object]) -> None:
    """Whatever the first table is that it may not read."""
    with empty_postgres() as url:
        migrate(url)
        refused = refusal(ask, as_stranger(url))
    assert refused.code is ErrorCode.DATABASE_READONLY
    assert "GRANT ALL ON ALL TABLES" in str(refused.hint)


def test_a_role_that_may_make_no_table_is_told_what_to_grant() -> None:
    """Without the statement that failed."""
    with empty_postgres() as url:
        run(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        refused = refusal(migrate, as_stranger(url))
    assert refused.code is ErrorCode.DATABASE_READONLY
    assert "CREATE TABLE" not in refused.message
    assert "GRANT CREATE" in str(refused.hint)


@pytest.mark.parametrize("ask", [migrate, status_postgres])
def test_a_search_path_to_nowhere_is_told(ask: Callable[[str], object]) -> None:
    """What the URL sets reaches the server, beside what we set."""
    with empty_postgres() as url:
        refused = refusal(ask, in_path(url, "nowhere"))
    assert refused.code is ErrorCode.INVALID_SETTING
    assert "search_path" in refused.message


def test_the_first_schema_of_the_path_is_ours_whatever_lies_in_the_next() -> None:
    """Status, migration and verification speak of the same tables."""
    with empty_postgres() as url:
        migrate(url)
        run(url, "CREATE SCHEMA s2")
        there = in_path(url, "s2,public")
        assert list(status_postgres(there).pending) == [revision.id for revision in revisions()]
        migrate(there)
        for either in (there, url):
            assert status_postgres(either).pending == ()
            assert verify_postgres(either) == []


@pytest.mark.parametrize("ask", [migrate, status_postgres])
@pytest.mark.parametrize("name", ["schema_ledger", "agents"])
def test_a_view_in_the_place_of_a_table_is_not_ours(ask: Callable[[str], object], name: str) -> None:
    """It is refused before anything is made."""
    with empty_postgres() as url:
        run(url, f"CREATE VIEW {name} AS SELECT 1 AS id")
        refused = refusal(ask, url)
    assert refused.code is ErrorCode.DATABASE_FOREIGN
    assert name in refused.message


@pytest.mark.parametrize("ask", [migrate, status_postgres])
def test_an_emptied_ledger_is_told(ask: Callable[[str], object]) -> None:
    """By its name; it comes with its first row, so nothing of ours leaves one."""
    with empty_postgres() as url:
        migrate(url)
        run(url, "DELETE FROM schema_ledger")
        refused = refusal(ask, url)
        assert refused.code is ErrorCode.DATABASE_CORRUPT
        assert "schema_ledger" in refused.message


@pytest.mark.parametrize("ask", [migrate, status_postgres])
def test_a_url_with_a_word_that_nobody_knows_is_refused(ask: Callable[[str], object]) -> None:
    """It is the setting that is wrong, and its password is not told."""
    refused = refusal(ask, "postgresql://u:secret@127.0.0.1:1/x?foo=bar")
    assert refused.code is ErrorCode.INVALID_SETTING
    assert "foo" in refused.message
    assert "secret" not in repr(refused)
