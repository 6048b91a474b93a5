"""How much is logged, what never is, and what becomes of the file."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dorkos.logs import LEVELS, REQUEST, LogFile, logging_to, set_level


def entries(path: Path) -> list[dict[str, Any]]:
    """What a log file holds."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


@pytest.fixture
def log() -> logging.Logger:
    """A logger that nobody else uses."""
    logger = logging.getLogger("dorkos.tests.logs")
    logger.setLevel(logging.DEBUG)
    return logger


@pytest.mark.parametrize("level", LEVELS)
def test_requests_of_adapters_are_never_logged(level: str) -> None:
    """Their URLs and headers hold secrets, such as the token of a bot."""
    root = logging.getLogger()
    before = root.level
    try:
        set_level(level)
        for name in ("httpx", "httpcore.http11", "httpcore.connection"):
            assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING
    finally:
        set_level("info")
        root.setLevel(before)


def test_an_entry_is_a_line_of_json_with_all_that_is_known(tmp_path: Path, log: logging.Logger) -> None:
    """What spans lines stays on one; a fault brings its trace, a request its id."""
    path = tmp_path / "logs" / "dorkos.log"
    token = REQUEST.set("a-request")
    with logging_to(path, max_bytes=1_000_000, keep=2):
        log.warning("häusl\n%s", "x", extra={"status": 200, "odd": Path("/x")})
        REQUEST.reset(token)
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed")
    log.warning("after the end")
    first, second = entries(path)
    assert first["time"].endswith("Z")
    assert {**first, "time": ""} == {
        "level": "warn",
        "time": "",
        "msg": "häusl\nx",
        "tag": "dorkos.tests.logs",
        "requestId": "a-request",
        "status": 200,
        "odd": "/x",
    }
    assert (second["level"], second["msg"]) == ("error", "it failed")
    assert "ValueError: broken" in second["exception"]
    assert "requestId" not in second


def test_the_file_is_its_owners_alone_and_goes_on_after_a_restart(
    tmp_path: Path, log: logging.Logger
) -> None:
    """What there was stays in it."""
    path = tmp_path / "logs" / "dorkos.log"
    before = os.umask(0)
    try:
        for number in range(2):
            with logging_to(path, max_bytes=1_000_000, keep=2):
                log.warning("start %d", number)
    finally:
        os.umask(before)
    assert [entry["msg"] for entry in entries(path)] == ["start 0", "start 1"]
    assert [stat.S_IMODE(found.stat().st_mode) for found in (path.parent, path)] == [0o700, 0o600]


def test_a_full_file_is_put_aside_and_old_ones_are_taken_away(tmp_path: Path, log: logging.Logger) -> None:
    """So the space that logs take is bounded; the newest entries are there."""
    path = tmp_path / "dorkos.log"
    with logging_to(path, max_bytes=2000, keep=2):
        for number in range(100):
            log.warning("entry %d", number)
    files = sorted(found.name for found in tmp_path.iterdir())
    assert files == ["dorkos.log", "dorkos.log.1", "dorkos.log.2"]
    assert all(found.stat().st_size <= 2000 for found in tmp_path.iterdir())
    assert entries(path)[-1]["msg"] == "entry 99"


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_plain_file_stops_nothing(
    tmp_path: Path, log: logging.Logger, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """It is told of once, and nothing is written through it; a pipe does not hold the server up."""
    path = tmp_path / "dorkos.log"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "elsewhere").write_text("mine", "ascii")
        path.symlink_to(tmp_path / "elsewhere")
    with logging_to(path, max_bytes=2000, keep=2):
        log.warning("one")
        log.warning("two")
    assert capsys.readouterr().err.count("cannot be written") == 1
    if kind == "link":
        assert (tmp_path / "elsewhere").read_text("ascii") == "mine"


def test_a_file_that_can_be_written_again_is_told_of_again_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that was full and is again full is worth two words."""
    path = tmp_path / "dorkos.log"
    handler = LogFile(path, max_bytes=2000, keep=1)
    record = logging.makeLogRecord({"msg": "x", "levelno": logging.INFO})
    for _ in range(2):
        path.mkdir()
        handler.emit(record)
        path.rmdir()
        handler.emit(record)
        handler.close()
        path.unlink()
    assert capsys.readouterr().err.count("cannot be written") == 2
