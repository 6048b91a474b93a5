"""Opening connections: what a URL may be."""

from __future__ import annotations

import pytest

from dorkos.db.engine import postgres_url
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_test_db


def test_a_password_with_an_unescaped_at_sign_is_refused_and_not_shown() -> None:
    """The part behind it would be taken for the host, and shown in the driver's message."""
    with pytest.raises(DorkError) as refusal:
        postgres_url("postgresql://kim:se@kret@[x/dorkos")

    assert refusal.value.code is ErrorCode.INVALID_SETTING
    assert "kret" not in str(refusal.value.body())


def test_an_escaped_at_sign_is_part_of_the_password() -> None:
    """Whichever of the usual schemes the URL has."""
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
        url = postgres_url(f"{scheme}://kim:se%40kret@localhost:5433/dorkos")
        assert (url.drivername, url.password, url.host) == ("postgresql+psycopg", "se@kret", "localhost")


async def test_commits_are_synced_on_a_server_that_has_them_off() -> None:
    """The tests' own PostgreSQL has synced commits off by default; no connection of ours leaves it so."""
    async with create_test_db("postgresql") as db:
        ask = "SELECT setting, reset_val FROM pg_settings WHERE name = 'synchronous_commit'"
        row = await db.read(lambda connection: connection.exec_driver_sql(ask).one())

    assert tuple(row) == ("on", "off")
