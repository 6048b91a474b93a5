"""One browser and one server with a day behind it, for all tests of the console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from scripts import lively
from tests.console.chromium import ARGUMENTS, executable
from tests.server_process import ServerProcess


@dataclass
class Window:
    """A page of the browser, and all that went wrong in it."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def go(self, address: str) -> Page:
        """Open a page of the console and wait until it follows events."""
        self.page.goto(self.url + address)
        self.page.wait_for_selector("#live-state[data-state=live]")
        return self.page


@dataclass(frozen=True)
class Console:
    """A browser that is logged in at a server."""

    context: BrowserContext
    server: ServerProcess
    ids: dict[str, str]

    def window(self) -> Window:
        """A new window. Faults of scripts, and what the policy blocked, are kept for the test to look at."""
        window = Window(self.context.new_page(), self.server.url)
        window.page.on(
            "console", lambda said: window.faults.append(said.text) if said.type == "error" else None
        )
        window.page.on("pageerror", lambda fault: window.faults.append(str(fault)))
        return window


# Not for the whole session: while it lives, no other test of this process could run a loop of its own. Nor
# by package, which means the session where a folder has no __init__.py.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, started once."""
    # As long as a busy machine may take; nobody waits that long by design.
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    """A server with a day behind it, and some ids of what is there."""
    folder: Path = tmp_path_factory.mktemp("lived")
    (folder / "projects").mkdir()
    ids = lively.furnish(folder / "home", folder / "projects")
    with ServerProcess(folder / "home", boundary=folder / "projects") as server:
        with server.client() as api:
            ids["run"] = api.get("/api/pulse/runs", params={"limit": 1}).json()[0]["id"]
            ids["chain"] = api.get(f"/api/relay/messages/{ids['message']}").json()["chainId"]
        yield server, ids


@pytest.fixture(scope="module")
def console(chromium: Browser, lived_in: tuple[ServerProcess, dict[str, str]]) -> Iterator[Console]:
    """The browser, logged in there."""
    server, ids = lived_in
    context = logged_in(chromium, server)
    yield Console(context, server, ids)
    context.close()


@pytest.fixture
def window(console: Console) -> Iterator[Window]:
    """A window of a test's own, in which nothing may go wrong."""
    window = console.window()
    yield window
    window.page.close()
    assert not window.faults


def logged_in(browser: Browser, server: ServerProcess) -> BrowserContext:
    """A profile of its own, with a session."""
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(60_000)
    with server.client() as api:
        link = api.post("/api/logins/links").json()["path"]
    page = context.new_page()
    page.goto(server.url + link)
    page.wait_for_url(f"{server.url}/")
    page.close()
    return context
