"""Several windows on one server, and a server that goes away and comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.console.conftest import logged_in
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]

_COMMAND = ["python3", "-c", "print('done')"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that comes back on the same port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("windows")
    with ServerProcess(folder / "home", boundary=folder, environment={"DORKOS_PORT": str(port)}) as running:
        yield running


@pytest.fixture
def browser(chromium: Browser, server: ServerProcess) -> Iterator[BrowserContext]:
    """A profile of its own, logged in."""
    context = logged_in(chromium, server)
    yield context
    context.close()


def schedule(server: ServerProcess, name: str) -> str:
    """A schedule on demand."""
    body = {"name": name, "cron": "@manual", "prompt": "go", "command": _COMMAND}
    with server.client() as api:
        made: str = api.post("/api/pulse/schedules", json=body).json()["id"]
    return made


def test_two_windows_follow_and_go_on_after_a_restart(server: ServerProcess, browser: BrowserContext) -> None:
    """What happens in one, or by another program, shows in both without a reload; also after a kill."""
    first, second = browser.new_page(), browser.new_page()
    for page in (first, second):
        page.goto(server.url + "/pulse")
        page.wait_for_selector("#live-state[data-state=live]")
        page.evaluate("window.notReloaded = true")
    schedule(server, "Before")
    for page in (first, second):
        expect(page.get_by_role("link", name="Before")).to_be_visible()
    server.kill()
    for page in (first, second):
        page.wait_for_selector("#live-state[data-state=lost]")
    server.start()
    for page in (first, second):
        page.wait_for_selector("#live-state[data-state=live]")
    schedule(server, "After")
    for page in (first, second):
        expect(page.get_by_role("link", name="After")).to_be_visible()
        assert page.evaluate("window.notReloaded")


def test_twenty_windows_share_one_stream(server: ServerProcess, browser: BrowserContext) -> None:
    """A stream for each would use up the connections that a browser opens to one server."""
    windows = [browser.new_page() for _ in range(20)]
    for page in windows:
        page.goto(server.url + "/pulse")
        page.wait_for_selector("#live-state[data-state=live]")
    schedule(server, "For all")
    for page in windows:
        expect(page.get_by_role("link", name="For all")).to_be_visible()
    windows[-1].goto(server.url + "/relay")
    expect(windows[-1].get_by_role("heading", level=1)).to_have_text("Relay")


def test_a_window_keeps_what_its_reader_does(server: ServerProcess, browser: BrowserContext) -> None:
    """An opened menu, a focus and a half-written answer outlive the news of others."""
    page = browser.new_page()
    identity = schedule(server, "Kept")
    page.goto(f"{server.url}/pulse/schedules/{identity}")
    page.wait_for_selector("#live-state[data-state=live]")
    page.get_by_text("Delete…").click()
    page.locator("#search").fill("half a word")
    with server.client() as api:
        api.post(f"/api/pulse/schedules/{identity}/trigger", json={})
    expect(page.locator("#runs")).to_contain_text("completed")
    expect(page.get_by_role("button", name="Delete it")).to_be_visible()
    expect(page.locator("#search")).to_have_value("half a word")
    assert page.evaluate("document.activeElement.id") == "search"


def test_logging_out_leads_every_window_to_the_login(server: ServerProcess, browser: BrowserContext) -> None:
    """Also those that were only open: the stream's end tells them, and they load anew by themselves."""
    page, other = browser.new_page(), browser.new_page()
    for each in (page, other):
        each.goto(server.url + "/")
        each.wait_for_selector("#live-state[data-state=live]")
    page.get_by_label("More").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    expect(other.get_by_role("heading", level=1)).to_have_text("Log in")


def test_what_is_being_written_outlives_the_login(server: ServerProcess, browser: BrowserContext) -> None:
    """The window says that it is logged out; after a login in another one it sends what was written."""
    writing, other = browser.new_page(), browser.new_page()
    writing.goto(server.url + "/relay/send")
    writing.wait_for_selector("#live-state[data-state=live]")
    writing.get_by_label("To", exact=True).fill("relay.human.nobody")
    writing.get_by_label("Payload", exact=True).fill("a long thought")
    other.goto(server.url + "/")
    other.get_by_label("More").click()
    other.get_by_role("button", name="Log out").click()
    expect(writing.get_by_role("alert")).to_contain_text("You are logged out")
    writing.get_by_role("button", name="Send").click()
    expect(writing.get_by_label("Payload", exact=True)).to_have_value("a long thought")
    with server.client() as api:
        other.goto(server.url + api.post("/api/logins/links").json()["path"])
    other.wait_for_url(f"{server.url}/")
    writing.get_by_role("button", name="Send").click()
    writing.wait_for_url("**/relay/messages/*")
    expect(writing.get_by_text("a long thought").first).to_be_visible()


def test_an_edit_outlives_what_it_was_for(server: ServerProcess, browser: BrowserContext) -> None:
    """Deleted by somebody else, the schedule can be created anew from what was written."""
    identity = schedule(server, "Doomed")
    page = browser.new_page()
    page.goto(f"{server.url}/pulse/schedules/{identity}/edit")
    page.wait_for_selector("#live-state[data-state=live]")
    page.locator("#f-prompt").fill("a long thought")
    with server.client() as api:
        api.delete(f"/api/pulse/schedules/{identity}")
    expect(page.locator("#over")).to_contain_text("was deleted meanwhile")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#f-prompt")).to_have_value("a long thought")
    page.get_by_role("button", name="Create the schedule").click()
    page.wait_for_url("**/pulse/schedules/*")
    expect(page.locator("main")).to_contain_text("a long thought")
