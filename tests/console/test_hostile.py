"""What strangers wrote is shown, never obeyed: markup, control characters, text that turns itself round."""

from __future__ import annotations

import shlex

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Console, Window

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]

MARKUP = "<script>window.broken=1</script><img src=x onerror=window.broken=2>\"'><svg onload=window.broken=3>"
LONG = "word" * 400
TURNED = "pay \u202etxt.exe\u202c now"
RTL = "مرحبا بالعالم"
HX = '<b hx-get="/logout" hx-trigger="load" data-hx-on:load="window.broken=4">x</b>'
ALL = f"{MARKUP} {HX} {RTL} {TURNED} {LONG}"
_PROGRAM = ["python3", "-c", r"print('\x1b[31mred\x1b[0m \x1b]0;title\x07' + __import__('sys').stdin.read())"]


@pytest.fixture(scope="module")
def hostile(console: Console) -> dict[str, str]:
    """All of it in names, prompts, output, payloads and reasons; the pages that show it."""
    with console.server.client() as api:
        body = {
            "name": f"{MARKUP}{TURNED}{LONG}"[:200],
            "prompt": ALL,
            "command": _PROGRAM,
            "description": ALL[:2000],
        }
        schedule = api.post("/api/pulse/schedules", json=body).json()
        run = api.post(f"/api/pulse/schedules/{schedule['id']}/trigger", json={}).json()["runId"]
        sent = {"subject": "relay.human.kim", "payload": {"text": ALL, MARKUP: RTL}}
        message = api.post("/api/relay/messages", json=sent).json()["messageId"]
        rule = {"from": "relay.x.*", "to": "relay.y.*", "action": "deny", "description": MARKUP}
        api.post("/api/relay/rules", json=rule)
        api.post("/api/mesh/deny", json={"path": "/srv/nowhere", "reason": f"{MARKUP}{TURNED}"})
    return {
        "schedule": f"/pulse/schedules/{schedule['id']}",
        "edit": f"/pulse/schedules/{schedule['id']}/edit",
        "run": f"/pulse/runs/{run}",
        "message": f"/relay/messages/{message}",
        "schedules": "/pulse",
        "overview": "/",
        "mailbox": "/relay/mailboxes/relay.human.kim",
        "rules": "/relay/rules",
        "denied": "/mesh/denied",
        "search": "/search?q=%3Cscript%3Ewindow.broken%3D5%3C/script%3E",
    }


def test_nothing_of_it_runs_and_the_policy_has_nothing_to_block(
    window: Window, hostile: dict[str, str]
) -> None:
    """No script ran, nothing was even tried, and no page is wider than its window for it."""
    page = window.page
    page.set_viewport_size({"width": 390, "height": 844})
    for name, address in hostile.items():
        page.goto(window.url + address)
        assert page.evaluate("window.broken") is None, name
        assert page.locator("main script, main img, [hx-get='/logout'], [onerror]").count() == 0, name
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name


def test_output_is_shown_without_what_was_meant_for_a_terminal(
    window: Window, hostile: dict[str, str]
) -> None:
    """Colours and titles are left out; the text itself is whole, and its markup is text."""
    page = window.go(hostile["run"])
    expect(page.locator("#output")).to_contain_text("red <script>window.broken=1</script>")
    said = page.locator("#output").inner_text()
    assert "\x1b" not in said
    assert page.locator("dd code").get_by_text("python3").text_content() == shlex.join(_PROGRAM)
    assert "title" not in said.split("<script>")[0]


def test_text_that_turns_itself_round_shows_that_it_does(window: Window, hostile: dict[str, str]) -> None:
    """What a person approves must read as it is stored."""
    page = window.go(hostile["schedule"])
    prompt = page.locator("pre[aria-label=Prompt]").inner_text()
    assert "\u202e" not in prompt
    assert "202E" in prompt
    assert RTL in prompt


def test_a_form_keeps_the_text_exactly(window: Window, hostile: dict[str, str]) -> None:
    """Made visible in a field, it would be stored like that with the next save."""
    page = window.go(hostile["edit"])
    assert page.locator("#f-prompt").input_value() == ALL
