"""Which server a command talks to, and as whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dorkos.cli.options import Options
from dorkos.cli.target import DEFAULT_URL, find_target, find_token, find_url
from dorkos.errors import DorkError, ErrorCode

OPERATOR = "operator-token-of-this-directory"


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A data directory whose server runs on another port."""
    (tmp_path / "token").write_text(OPERATOR + "\n", encoding="ascii")
    (tmp_path / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:5151", "pid": 1}), "utf-8")
    return tmp_path


def _environment(home: Path, **more: str) -> dict[str, str]:
    return {"DORK_HOME": str(home), **more}


def test_the_address_comes_from_flag_then_environment_then_directory_then_default(
    started: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each source yields to the one before it."""
    environment = _environment(started, DORKOS_URL="http://b:1")
    assert find_url(Options(url="http://a:1/"), environment) == "http://a:1"
    assert find_url(Options(), environment) == "http://b:1"
    assert find_url(Options(), _environment(started)) == "http://127.0.0.1:5151"
    assert find_url(Options(), _environment(tmp_path_factory.mktemp("empty"))) == DEFAULT_URL


def test_home_is_taken_from_the_flag_first(started: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`--home` wins over DORK_HOME, for address and token alike."""
    environment = _environment(tmp_path_factory.mktemp("empty"))
    target = find_target(Options(home=str(started)), environment)
    assert (target.url, target.token) == ("http://127.0.0.1:5151", OPERATOR)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:4242",
        "ftp://a",
        "http://",
        "http://a:99999",
        "http://a b",
        "http://a..b",
        "http://.",
        "http://a\x01b",
        "http://[::1",
        "http://me:secret@a",
        "http://a?b=c",
        "http://" + "a" * 64,
    ],
)
def test_what_is_no_address_is_refused(started: Path, url: str) -> None:
    """With the form it should have."""
    with pytest.raises(DorkError, match="not the address") as refusal:
        find_url(Options(url=url), _environment(started))
    assert refusal.value.code is ErrorCode.USAGE


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": 5}', '{"url": "nowhere"}'])
def test_a_damaged_server_file_is_not_taken_for_an_absent_one(started: Path, text: str) -> None:
    """The default port could be another directory's server."""
    (started / "server.json").write_text(text, encoding="utf-8")
    with pytest.raises(DorkError, match=r"server\.json") as refusal:
        find_url(Options(), _environment(started))
    assert refusal.value.code is ErrorCode.NOT_RUNNING


def test_the_token_comes_from_flag_then_environment_then_file(started: Path) -> None:
    """Each source yields to the one before it."""
    environment = _environment(started, DORKOS_TOKEN="from-environment")
    assert find_token(Options(token="from-flag"), environment, DEFAULT_URL) == "from-flag"
    assert find_token(Options(), environment, DEFAULT_URL) == "from-environment"
    assert find_token(Options(), _environment(started), DEFAULT_URL) == OPERATOR


def test_a_run_never_gets_the_operators_token(started: Path) -> None:
    """A run without a token of its own is refused, although the file could be read."""
    with pytest.raises(DorkError) as refusal:
        find_token(Options(), _environment(started, DORKOS_RUN_ID="01R"), DEFAULT_URL)
    assert refusal.value.code is ErrorCode.TOKEN_MISSING
    mine = _environment(started, DORKOS_RUN_ID="01R", DORKOS_TOKEN="mine")
    assert find_token(Options(), mine, DEFAULT_URL) == "mine"


def test_an_empty_token_is_a_failed_credential_not_an_absent_one(started: Path) -> None:
    """A script whose token did not arrive must not speak as the operator instead."""
    with pytest.raises(DorkError, match="DORKOS_TOKEN") as refusal:
        find_token(Options(), _environment(started, DORKOS_TOKEN=""), DEFAULT_URL)
    assert refusal.value.code is ErrorCode.TOKEN_MISSING


@pytest.mark.parametrize("token", ["tökén", "two words", "line\nline", "nul\x00"])
def test_a_token_that_no_header_can_hold_is_refused(started: Path, token: str) -> None:
    """Before anything is sent."""
    with pytest.raises(DorkError) as refusal:
        find_token(Options(token=token), _environment(started), DEFAULT_URL)
    assert refusal.value.code is ErrorCode.TOKEN_INVALID


def test_another_host_does_not_get_the_operators_token(started: Path) -> None:
    """The file belongs to the server of its directory; it goes to this machine or to that server only."""
    with pytest.raises(DorkError, match="elsewhere") as refusal:
        find_token(Options(), _environment(started), "https://elsewhere.example")
    assert refusal.value.code is ErrorCode.TOKEN_MISSING
    (started / "server.json").write_text(json.dumps({"url": "http://10.0.0.5:4242"}), "utf-8")
    assert find_token(Options(), _environment(started), "http://10.0.0.5:4242") == OPERATOR


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.9.9.9:1", "http://[::1]:1"])
def test_every_loopback_address_is_this_machine(started: Path, url: str) -> None:
    """The operator's token goes there."""
    assert find_token(Options(), _environment(started), url) == OPERATOR


def test_a_directory_without_a_token_has_no_server(tmp_path: Path) -> None:
    """Nothing was ever started there; but where a server was named, the token is what is missing."""
    with pytest.raises(DorkError) as refusal:
        find_target(Options(), _environment(tmp_path))
    assert refusal.value.code is ErrorCode.NOT_RUNNING
    with pytest.raises(DorkError) as refusal:
        find_target(Options(url="http://127.0.0.1:1"), _environment(tmp_path))
    assert refusal.value.code is ErrorCode.TOKEN_MISSING


def test_a_token_file_that_cannot_be_read_is_not_an_absent_one(started: Path) -> None:
    """A directory stands in its place, which even root cannot read as a file."""
    (started / "token").unlink()
    (started / "token").mkdir()
    with pytest.raises(DorkError, match="cannot be read") as refusal:
        find_target(Options(), _environment(started))
    assert refusal.value.code is ErrorCode.TOKEN_MISSING
