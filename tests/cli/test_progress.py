"""The bar of long work."""

from __future__ import annotations

import io

import pytest

from dorkos.cli.progress import progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _work() -> None:
    with progress_bar() as tell:
        tell("reading", 0, 10)
        tell("reading", 10, 10)
        tell("copying", 0, 0)
        tell("copying", 5, 10)


def test_a_terminal_shows_each_part_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, with how far it is; standard output stays free for the answer."""
    out, err = _Terminal(), _Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    _work()
    assert "reading" in err.getvalue()
    assert "copying" in err.getvalue()
    assert "50%" in err.getvalue()
    assert out.getvalue() == ""


def test_a_pipe_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is no place for a bar."""
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    _work()
    assert err.getvalue() == ""
