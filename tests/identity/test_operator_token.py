"""The operator's token is made once, readable by its owner only, and never replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.operator_token import load_or_create


def test_the_token_is_made_once_and_read_afterwards(tmp_path: Path) -> None:
    """The second start gets the same token, and no draft is left lying about."""
    path = tmp_path / "token"
    first = load_or_create(path)

    assert first == load_or_create(path)
    assert [path] == list(tmp_path.iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first) > 40


def test_a_directory_that_cannot_take_the_token_is_refused(tmp_path: Path) -> None:
    """With a code and what to do, not as a fault of ours; and once it is there nothing is written again."""
    with pytest.raises(DorkError) as refusal:
        load_or_create(tmp_path / "nowhere" / "token")
    assert refusal.value.code is ErrorCode.HOME_UNWRITABLE

    token = load_or_create(tmp_path / "token")
    made = (tmp_path / "token").stat()
    assert load_or_create(tmp_path / "token") == token
    assert (tmp_path / "token").stat().st_ctime_ns == made.st_ctime_ns


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"\xff\xfe" * 30, b"\x00" * 60, b"one word, and more\n" * 3, b"x" * 501]
)
def test_a_file_without_a_token_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """Whoever still uses the old token must not be locked out silently."""
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(DorkError) as refusal:
        load_or_create(path)

    assert refusal.value.code == ErrorCode.TOKEN_MISSING
    assert content == path.read_bytes()
