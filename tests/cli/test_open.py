"""`dorkos open` and `dorkos sessions`, on a real server."""

from __future__ import annotations

import webbrowser
from unittest import mock

import httpx
import pytest

from tests.cli.conftest import Dorkos
from tests.server_process import ServerProcess


def test_a_printed_link_logs_a_browser_in(dorkos: Dorkos, server: ServerProcess) -> None:
    """It is a whole address; the login leads to the page that was named."""
    link = dorkos("open", "/inbox", "--print").out.splitlines()[0]
    with httpx.Client(headers={"Accept": "text/html"}, trust_env=False, verify=False) as browser:
        assert 'content="0;url=/inbox"' in browser.get(link).text
        assert browser.get(f"{server.url}/").status_code == 200


def test_a_browser_is_started_where_there_is_one(dorkos: Dorkos, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link itself is not shown then: it would only be used up."""
    with mock.patch.object(webbrowser, "open", return_value=True) as started:
        done = dorkos("open", DISPLAY=":0")
    assert (done.code, "login?link=" in done.out) == (0, False)
    assert "/login?link=" in started.call_args.args[0]


def test_without_a_screen_the_link_is_shown(dorkos: Dorkos) -> None:
    """A browser in the terminal would hide it."""
    with (
        mock.patch("sys.platform", "linux"),
        mock.patch.object(webbrowser, "open", side_effect=AssertionError("no browser")),
    ):
        done = dorkos("open", DISPLAY="", WAYLAND_DISPLAY="")
    assert "/login?link=" in done.out


def test_the_link_as_json(dorkos: Dorkos) -> None:
    """With the time at which it ends."""
    answer = dorkos("open", "--json").json
    assert set(answer) == {"url", "expiresAt"}


@pytest.mark.parametrize("page", ["//evil.example", "https://evil.example", "pulse", "/\\evil.example"])
def test_only_pages_of_the_console_can_be_opened(dorkos: Dorkos, page: str) -> None:
    """Before anything is asked of the server."""
    done = dorkos("open", page)
    assert (done.code, "no page of the console" in done.err) == (2, True)


def test_sessions_are_listed_and_ended(dorkos: Dorkos, server: ServerProcess) -> None:
    """The browser is logged out at once."""
    link = dorkos("open", "--json").json["url"]
    with httpx.Client(
        headers={"User-Agent": "Firefox/1 Linux listed"}, trust_env=False, verify=False
    ) as browser:
        browser.get(link)
        newest = dorkos("sessions", "list", "--json").json[0]
        assert newest["name"] == "Firefox on Linux"
        assert newest["id"] in dorkos("sessions", "list").out
        assert dorkos("sessions", "end", newest["id"]).code == 0
        assert browser.get(f"{server.url}/api/status").status_code == 401
    assert dorkos("sessions", "end", newest["id"]).code == 3
