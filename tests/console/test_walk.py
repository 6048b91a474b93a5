"""Each page's main task, done as a person does it, in a real browser on a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Console, Window

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]

# Prints a line, then waits to be ended; `READY` is what a test waits for.
_LASTING = "python3 -u -c 'import signal; print(\"READY to be ended\"); signal.pause()'"
_QUICK = "python3 -c 'import sys; print(\"heard:\", sys.stdin.read())'"


def fill_in(window: Window, name: str, command: str) -> None:
    """The form of a schedule that runs a program."""
    page = window.go("/pulse/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Prompt", exact=True).fill("Say hello")
    page.get_by_label("a program").check()
    page.get_by_label("Program and its arguments").fill(command)


def test_a_schedule_is_created_previewed_and_run(window: Window) -> None:
    """The builder previews instants and refuses in place what the API refuses; the output comes live."""
    page = window.page
    fill_in(window, "Say hello", _QUICK)
    page.get_by_label("Cron expression", exact=True).first.check()
    page.locator("#f-cron").fill("61 9 * * *")
    expect(page.locator("#preview .bad").first).to_be_visible()
    page.locator("#f-cron").fill("0 9 * * 1-5")
    page.get_by_label("Time zone").fill("America/New_York")
    expect(page.locator("#preview time")).to_have_count(8)
    expect(page.locator("#preview")).to_contain_text(re.compile("09:00:00 E[SD]T"))  # In winter, in summer.
    page.get_by_role("button", name="Create the schedule").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Say hello")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#output")).to_contain_text("heard: Say hello")
    expect(page.locator("#no-output")).to_have_count(0)
    expect(page.locator("#top .state")).to_have_text("completed")


def test_a_form_that_is_refused_says_why_beside_the_field(window: Window) -> None:
    """And keeps what was filled in."""
    page = window.page
    fill_in(window, "Refused", _QUICK)
    page.get_by_label("Monthly").check()
    page.locator("#f-day").fill("35")
    page.get_by_role("button", name="Create the schedule").click()
    expect(page.locator("#refused")).to_be_visible()
    expect(page.locator("#f-day")).to_have_value("35")
    expect(page.get_by_label("Name")).to_have_value("Refused")
    window.faults.clear()  # The browser reports the status of the page as an error.


def test_a_form_of_before_a_change_is_not_saved_over_it(window: Window, console: Console) -> None:
    """It says so and keeps what was filled in; saved once more, it is meant."""
    page = window.page
    with console.server.client() as api:
        made = {"name": "Two windows", "cron": "@manual", "prompt": "go", "command": ["true"]}
        schedule = f"/api/pulse/schedules/{api.post('/api/pulse/schedules', json=made).json()['id']}"
        window.go(schedule.removeprefix("/api") + "/edit")
        api.patch(schedule, json={"prompt": "changed elsewhere"})
        page.get_by_label("Name").fill("Mine")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#refused")).to_contain_text("Nothing was saved.")
        assert api.get(schedule).json()["prompt"] == "changed elsewhere"
        window.faults.clear()  # The browser reports the status of the page as an error.
        expect(page.get_by_label("Name")).to_have_value("Mine")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Mine")


# Presses the button twice, and counts what would have gone out instead of letting it.
_PRESS_TWICE = """() => {
  const form = document.getElementById("schedule-form");
  let sent = 0;
  addEventListener("submit", (event) => {
    if (!event.defaultPrevented) sent += 1;
    event.preventDefault();
  });
  form.requestSubmit();
  form.requestSubmit();
  return sent;
}"""


def test_a_form_is_sent_once_however_often_its_button_is_pressed(window: Window) -> None:
    """A second press, before the answer to the first, would make a second schedule."""
    fill_in(window, "Pressed twice", _QUICK)
    assert window.page.evaluate(_PRESS_TWICE) == 1


def test_a_run_is_watched_and_cancelled(window: Window) -> None:
    """What it prints shows while it runs; the end shows without a reload."""
    page = window.page
    fill_in(window, "Lasting", _LASTING)
    page.get_by_label("Only on demand").check()
    page.get_by_role("button", name="Create the schedule").click()
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#output")).to_contain_text("READY to be ended")
    page.evaluate("window.notReloaded = true")
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#top .state")).to_have_text("cancelled")


def test_a_proposal_is_judged_and_approved(window: Window, console: Console) -> None:
    """With its exact prompt and its reason; afterwards it fires by itself."""
    page = window.go("/inbox")
    expect(page.locator("#waits")).to_contain_text("reviewer: Branches come in")
    page.get_by_role("link", name="Review before the merge window").click()
    expect(page.locator("pre[aria-label=Prompt]")).to_contain_text("Say which should wait, and why.")
    expect(page.get_by_text("Branches come in after the last review")).to_be_visible()
    page.get_by_label("A word to go with it").fill("Go on.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved. It fires")).to_be_visible()
    with console.server.client() as api:
        approval = api.get(f"/api/approvals/{console.ids['approval']}").json()
    assert (approval["status"], approval["answer"]) == ("approved", "Go on.")


def test_a_question_is_answered_and_its_run_goes_on(window: Window, console: Console) -> None:
    """It comes to the inbox by itself and is answered on the page of its run, by what it offers or in own
    words; what was typed is kept when it is refused, and what comes in does not load over it."""
    asks = "#!scripted\nsession\nask Which paint? | #!scripted | no"
    with console.server.client() as api:
        made = {"name": "Paint", "prompt": asks, "runtime": "scripted", "enabled": True, "manual": True}
        page = window.go("/inbox")
        schedule = api.post("/api/pulse/schedules", json={**made, "cron": "@manual"}).json()
        api.post(f"/api/pulse/schedules/{schedule['id']}/trigger")
    page.get_by_role("link", name="A run asks: Which paint?").click()
    expect(page.get_by_label("The question")).to_have_text("Which paint?")
    page.get_by_label("In your own words").fill("#!scripted\nsay as you like, in {resume}")
    page.get_by_role("button", name="Answer and go on").click()
    expect(page.get_by_text("Your answer was given")).to_be_visible()
    expect(page.locator("#output")).to_contain_text("as you like, in scripted-")
    expect(page.locator("#top .state")).to_have_text("completed")

    page.get_by_role("link", name="the run before").click()
    expect(page.locator("#asks")).to_contain_text("as you like")
    with console.server.client() as api:
        api.post(f"/api/pulse/schedules/{schedule['id']}/trigger")
    window.go("/inbox").get_by_role("link", name="A run asks: Which paint?").click()
    page.get_by_role("radio", name="no", exact=True).check()
    page.get_by_role("button", name="Answer and go on").click()
    expect(page.locator("#output")).to_have_text("no")
    with console.server.client() as api:
        api.post(f"/api/pulse/schedules/{schedule['id']}/trigger")
    window.go("/inbox").get_by_role("link", name="A run asks: Which paint?").click()
    page.get_by_role("button", name="Leave it unanswered").click()
    expect(page.get_by_text("The question is closed.")).to_be_visible()
    expect(page.locator("#asks")).to_contain_text("rejected")


def test_a_message_is_written_and_seen_in_its_mailbox(window: Window) -> None:
    """The page of the message is its receipt; looking into the mailbox takes nothing out."""
    page = window.go("/relay")
    page.get_by_role("link", name="Write a message").click()
    page.get_by_label("To", exact=True).fill("relay.human.kim")
    page.get_by_label("Payload", exact=True).fill("A word from the walk")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The message is stored for every recipient.")).to_be_visible()
    page.locator("#deliveries").get_by_role("link", name="relay.human.kim").click()
    expect(page.locator("#messages")).to_contain_text("A word from the walk")


def test_a_decision_about_a_message_is_explained(window: Window) -> None:
    """By the rule that decided."""
    page = window.go("/relay/rules")
    page.get_by_label("From", exact=True).first.fill("relay.agent.workshop.a")
    page.get_by_label("To", exact=True).first.fill("relay.agent.elsewhere.b")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("It is refused.")).to_be_visible()


def test_a_trace_is_followed(window: Window, console: Console) -> None:
    """From a message to everything that its cause led to, and from there to what each of it is."""
    page = window.go(f"/relay/messages/{console.ids['message']}")
    page.get_by_role("link", name="Trace").click()
    bar = page.locator("#trace").get_by_role("link", name="relay.human.kim")
    expect(bar).to_be_visible()
    bar.click()
    page.wait_for_url("**/relay/messages/*")


def test_a_dead_letter_is_sent_again_once_there_is_a_mailbox(window: Window, console: Console) -> None:
    """With the same id; it is waiting there then."""
    page = window.go("/relay/dead")
    letter = page.locator("#letters tr", has_text="relay.human.lee")
    expect(letter).to_contain_text("no recipient")
    with console.server.client() as api:
        api.post("/api/relay/endpoints", json={"subject": "relay.human.lee"})
    letter.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("The message was sent again.")).to_be_visible()
    page.goto(window.url + "/relay/mailboxes/relay.human.lee")
    expect(page.locator("#messages")).to_contain_text("Are you there?")


def test_a_dead_letter_tells_its_reason(window: Window) -> None:
    """And leads to the message that stopped."""
    page = window.go("/relay/dead")
    expect(page.locator("#letters")).to_contain_text("no recipient")
    page.locator("#letters a.name").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("relay.")


def test_agents_are_discovered_and_registered(
    window: Window, tmp_path_factory: pytest.TempPathFactory, console: Console
) -> None:
    """What is found shows while the search goes on; the token is shown once."""
    found = Path(console.server.home).parent / "projects" / "newcomer"
    found.mkdir()
    (found / "CLAUDE.md").write_text("# newcomer\n\nNew here.\n", encoding="utf-8")
    page = window.go("/mesh/discover")
    page.get_by_label("Where to look").fill(str(found.parent))
    page.get_by_role("button", name="Look").click()
    candidate = page.locator("#candidates li", has_text="newcomer")
    expect(candidate).to_be_visible()
    candidate.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("is registered")
    expect(page.get_by_text(re.compile("^dork_"))).to_be_visible()


def test_an_adapter_is_added_refused_in_place_tried_switched_and_removed(
    window: Window, console: Console
) -> None:
    """What the API refuses is said beside the field; a secret is never shown and stays as it was; switching
    off can be undone; what was tried is not tried again by loading the page anew."""
    page = window.go("/relay/adapters")
    page.get_by_role("link", name="New adapter").click()
    page.get_by_label("Id", exact=True).fill("hook")
    page.get_by_label("Messages go to", exact=True).fill("relay.human.kim")
    page.get_by_label("Secret that senders sign with").fill("short")
    page.get_by_role("button", name="Add the adapter").click()
    expect(page.locator("[id='w-inbound.secret']")).to_have_text("a secret has at least 16 characters")
    expect(page.get_by_label("Id", exact=True)).to_have_value("hook")
    window.faults.clear()  # The browser reports the status of the page as an error.
    page.get_by_label("Secret that senders sign with").fill("long-enough-to-hold")
    page.get_by_role("button", name="Add the adapter").click()
    expect(page.get_by_text("The adapter was added.")).to_be_visible()
    expect(page.locator("#figures .state")).to_have_text("connected")

    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("Secret that senders sign with")).to_have_value("(stored)")
    page.get_by_label("URL").fill("http://127.0.0.1:9/away")
    page.get_by_label("Secret to sign with").fill("env:NO_SUCH_SECRET")
    page.get_by_label("Headers").fill("X-Team: workshop")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#facts")).to_contain_text("X-Team: workshop")
    assert "long-enough" not in page.content()
    page.get_by_role("button", name="Test it").click()
    expect(page.get_by_text("The test failed.")).to_be_visible()
    assert page.url.endswith("/relay/adapters/hook")
    page.reload()
    expect(page.get_by_text("The test failed.")).to_have_count(0)

    page.get_by_role("button", name="Switch off").click()
    page.get_by_role("button", name="Switch it on again").click()
    expect(page.get_by_text("The adapter was switched on.")).to_be_visible()
    with console.server.client() as api:
        config = api.get("/api/relay/adapters/hook").json()["config"]
    assert (config["enabled"], config["config"]["outbound"]["headers"]) == (True, {"X-Team": "workshop"})
    page.get_by_text("Remove…").click()
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_text("The adapter was removed")).to_be_visible()
    expect(page.get_by_role("link", name="hook", exact=True)).to_have_count(0)


def test_a_rule_and_a_denial_are_taken_back(window: Window, console: Console) -> None:
    """By the button beside what is said; a rule that was removed comes back as it was."""
    page = window.go("/relay/rules")
    add = page.locator("form", has=page.get_by_role("button", name="Add the rule"))
    add.get_by_label("From").fill("relay.agent.one.*")
    add.get_by_label("To").fill("relay.agent.two.*")
    add.get_by_label("What it is for").fill("a & b = c")
    add.get_by_role("button").click()
    page.locator("#rules tr", has_text="relay.agent.one.*").get_by_text("Remove…").click()
    page.get_by_role("button", name="Remove it", exact=True).click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator("#rules tr", has_text="relay.agent.one.*")).to_contain_text("a & b = c")
    page.get_by_role("button", name="Remove it again").click()
    expect(page.locator("#rules")).not_to_contain_text("relay.agent.one.*")

    kept_out = Path(console.server.home).parent / "projects" / "kept out"
    window.go("/mesh/denied").get_by_label("Path", exact=True).fill(str(kept_out))
    page.get_by_role("button", name="Deny it").click()
    page.get_by_role("button", name="Lift it again").click()
    expect(page.get_by_role("button", name="Keep it out again")).to_be_visible()
    page.reload()
    expect(page.get_by_text("The denial was lifted")).to_have_count(0)  # It was said.


def test_the_topology_is_drawn(window: Window) -> None:
    """With every agent, and a table that says the same."""
    page = window.go("/mesh/topology")
    expect(page.locator("#graph")).to_have_attribute("data-drawn", re.compile("[0-9]+"))
    assert page.locator("#graph canvas").count() > 0
    expect(page.locator("#edges")).to_contain_text("relay.human.kim")


def test_the_database_is_backed_up_and_checked(window: Window) -> None:
    """The copy is in the list, and the check says that the data is sound."""
    page = window.go("/database")
    page.get_by_role("button", name="Back up now").click()
    expect(page.get_by_text("was made and read back")).to_be_visible()
    expect(page.locator("#copies")).to_contain_text("backup-")
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_text("The data is sound")).to_be_visible()


def test_everything_is_held_and_let_go_on(window: Window) -> None:
    """Every page says so in between."""
    page = window.go("/")
    page.get_by_text("Hold everything…").click()
    page.get_by_label("Why, for whoever wonders").fill("a walk")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator("#fleet")).to_contain_text("a walk")
    page.goto(window.url + "/relay")
    page.get_by_role("button", name="Let it go on").click()
    expect(page.locator("#fleet")).to_have_count(0)


def test_an_id_and_a_word_are_found(window: Window, console: Console) -> None:
    """An id leads straight to what it names."""
    page = window.go("/")
    page.keyboard.press("/")
    page.keyboard.type(console.ids["message"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/relay/messages/{console.ids['message']}")
    page.goto(window.url + "/search?q=flaky")
    expect(page.get_by_role("link", name="Tidy flaky tests")).to_be_visible()


def test_a_reader_without_scripts_sees_what_there_is(console: Console) -> None:
    """Pages are whole without them, and forms work."""
    context = console.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]  # It has one.
    context.add_cookies(console.context.cookies())  # type: ignore[arg-type]  # What one gives the other takes.
    page = context.new_page()
    page.goto(console.server.url + "/")
    expect(page.locator("#slots")).to_contain_text("Watch upstream")
    page.goto(console.server.url + "/pulse")
    page.get_by_role("link", name="Watch upstream").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("The schedule is paused")).to_be_visible()
    page.get_by_role("button", name="Resume it").click()  # The way back, beside what was said.
    expect(page.get_by_text("The schedule fires again")).to_be_visible()
    context.close()
