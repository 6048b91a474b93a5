"""`dorkos pulse add`, `edit` and `preview` with every policy, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Dorkos

POLICIES = (
    *("--overlap", "cancel-previous", "--catch-up", "all", "--catch-up-max", "7", "--window", "2h"),
    *("--jitter", "5m", "--retries", "3", "--retry-delay", "10s", "--repeatable", "--idle-timeout", "1m"),
    *("--alarm-after", "30m", "--pause-after", "5", "--max-runtime", "10m"),
)


def test_every_policy_has_an_option(dorkos: Dorkos, projects: Path) -> None:
    """What is said on the command line is what is stored, and the text tells what is not ordinary."""
    words = ("--every", "15m", "--cwd", str(projects), *POLICIES)
    added = dorkos("pulse", "add", "policies", *words, "--json", "--", "true").json
    assert (added["cron"], added["everyMs"]) == ("@every 15m", 900_000)
    assert (added["overlap"], added["catchUp"], added["catchUpMax"]) == ("cancel_previous", "all", 7)
    assert (added["catchUpWindowMs"], added["jitterMs"]) == (7_200_000, 300_000)
    assert (added["maxAttempts"], added["retryDelayMs"], added["repeatable"]) == (4, 10_000, True)
    assert (added["idleTimeoutMs"], added["alarmAfterMs"]) == (60_000, 1_800_000)
    assert (added["pauseAfterFailures"], added["maxRuntime"]) == (5, 600_000)

    text = dorkos("pulse", "add", "policies again", *words, "--", "true").out
    assert "overlap cancel_previous" in text
    assert "up to 4 tries" in text


def test_an_edit_changes_what_it_names(dorkos: Dorkos, projects: Path) -> None:
    """Other fields stay; `off` takes limits away."""
    words = ("--every", "15m", "--cwd", str(projects), *POLICIES)
    added = dorkos("pulse", "add", "to edit", *words, "--json", "--", "true").json
    edited = dorkos(
        *("pulse", "edit", "to edit", "--name", "edited", "--cron", "0 9 * * *", "--window", "off"),
        *("--catch-up", "skip", "--catch-up-max", "off", "--jitter", "off", "--not-repeatable", "--json"),
    ).json
    changed: dict[str, object] = {
        "name": "edited",
        "cron": "0 9 * * *",
        "everyMs": None,
        "catchUpWindowMs": None,
    }
    changed |= {"catchUp": "skip", "catchUpMax": None, "jitterMs": 0, "repeatable": False}
    assert {key: edited[key] for key in changed} == changed
    kept = (
        "prompt",
        "command",
        "cwd",
        "overlap",
        "maxAttempts",
        "retryDelayMs",
        "idleTimeoutMs",
        "maxRuntime",
    )
    assert {key: edited[key] for key in kept} == {key: added[key] for key in kept}
    assert "Changed edited." in dorkos("pulse", "edit", added["id"], "--retries", "0").out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "usage"),
        (("--every", "5m", "--cron", "* * * * *"), "usage"),
        (("--every", "soon"), "usage"),
        (("--every", "500ms"), "validation_failed"),
        (("--max-active", "many"), "usage"),
        (("--max-active", "2"), "validation_failed"),
        (("--overlap", "sometimes"), "validation_failed"),
        (("--window", "2"), "usage"),
    ],
    ids=str,
)
def test_an_edit_that_makes_no_sense_is_refused(
    dorkos: Dorkos, projects: Path, words: tuple[str, ...], code: str
) -> None:
    """With the code that says who has to mend what."""
    added = dorkos("pulse", "add", "kept", "--manual", "--cwd", str(projects), "--json", "--", "true").json
    done = dorkos("pulse", "edit", added["id"], *words, "--json")
    assert (done.json["code"], done.code) == (code, 2)


def test_a_preview_shows_both_clocks(dorkos: Dorkos) -> None:
    """In the zone and in UTC, over a clock change."""
    words = ("pulse", "preview", "30 2 * * *", "--zone", "America/New_York", "--after", "2026-03-07T12:00")
    shown = dorkos(*words, "--count", "2").out
    assert "Sun 2026-03-08 03:00:00 EDT" in shown
    assert "2026-03-09T06:30:00.000Z" in shown
    assert len(dorkos(*words, "--json").json["nextRuns"]) == 5
    assert "never due" in dorkos("pulse", "preview", "@manual").out
