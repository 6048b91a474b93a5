"""The console for everybody: no serious fault by axe's rules, and nothing that needs a pointer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.console.addresses import pages
from tests.console.conftest import Console, Window

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]

_GRAVE = ("serious", "critical")


def grave(page: Page) -> list[str]:
    """What axe, which the page holds, finds that would keep somebody out."""
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run({resultTypes: ['violations']}).then((results) => results.violations)"
    )
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found
        if fault["impact"] in _GRAVE
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("name", pages(defaultdict(str)))
def test_no_page_keeps_anybody_out(window: Window, console: Console, name: str) -> None:
    """By axe's rules in light and dark, as first seen; and from a small phone to a wide screen nothing has to
    be scrolled sideways."""
    page = window.page
    page.goto(window.url + pages(console.ids)[name])
    page.evaluate(Axe().axe_script)  # Once: it is half a megabyte to parse.
    faults: list[str] = []
    for scheme, width in (("light", 360), ("dark", 1920)):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # One of its words.
        faults += grave(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            faults.append(f"wider than a window of {width} pixels")
    assert not faults


def test_the_keyboard_alone_leads_everywhere(window: Window) -> None:
    """Sections by two keys, lines of a list by `j`, a line opened by Enter, the keys told by `?`."""
    # Two keys belong together for a moment, which on a busy machine may be over before the second is pressed.
    window.page.add_init_script("const began = Date.now(); Date.now = () => began;")
    page = window.go("/")
    for key, place in (("p", "/pulse"), ("i", "/inbox"), ("m", "/mesh"), ("r", "/relay"), ("d", "/database")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(window.url + place)
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url(window.url + "/pulse")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('a[data-row]')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pulse/schedules/*")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_everything_that_can_be_pressed_is_reached_by_tab(window: Window) -> None:
    """In the order of the page, with a mark that shows where one is; the first leads past the bar."""
    page = window.go("/pulse")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    expected = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input, summary')]"
        ".filter((each) => each.checkVisibility() && !each.disabled).length"
    )
    seen = 1
    for _ in range(expected - 1):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", page.evaluate("document.activeElement.outerHTML")
        seen += 1
    assert page.evaluate("document.activeElement !== document.body")
    assert seen == expected
