"""Opening connections: what a URL may be."""

from __future__ import annotations

import pytest

from dorkos.db.engine import postgres_url
from dorkos.errors import DorkError, ErrorCode


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
