"""Cron expressions: what is taken, what is refused by name, and what clock changes do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.cron import NICKNAMES, check, instants, normalise

START = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")


def local(expression: str, zone: ZoneInfo, after: str, count: int) -> list[str]:
    """The next instants after a time on the wall, as clocks in the zone show them."""
    start = datetime.fromisoformat(after).replace(tzinfo=zone)
    found = islice(instants(expression, zone, start), count)
    return [f"{instant.astimezone(zone):%m-%d %H:%M}" for instant in found]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * 2026", "year"),
        ("61 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day-of-week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("² * * * *", "minute"),
        ("@reboot", "names no time"),
        ("@every 5m", "an interval"),
        ("@fortnightly", "not a known nickname"),
        ("0 0 15W * *", "nearest"),
        ("0 0 1 * +1", "leading `+`"),
        ("2026-03-01T09:00:00", "looks like a date"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 */31 * 1#3", "never due"),
        ("0 " * 200, "longer than"),
        ("9" * 180 + " * * * *", "minute"),
    ],
)
def test_what_cannot_be_due_is_refused_by_name(expression: str, says: str) -> None:
    """Each refusal is `invalid_cron`, names what is wrong, and says what to write instead."""
    with pytest.raises(DorkError) as refusal:
        check(expression, UTC, START)
    assert refusal.value.code is ErrorCode.INVALID_CRON
    assert says in refusal.value.message
    assert refusal.value.hint


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_nicknames_are_due(nickname: str) -> None:
    """Each nickname is read in any case and is due."""
    check(nickname, UTC, START)
    assert normalise(nickname.upper()) == NICKNAMES[nickname]


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 29 2 *",
        "? ? ? * ?",
        "*/15 9-17 * jan-mar mon-fri",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 * * 5L",
        "0 0 * * 1#2",
        "30 0 9 * * 7",
        "  0   9 * *  * ",
        "0 9 * * * *",
        "0 0 9 * * * *",
        "0 0 9 * * * ?",
    ],
)
def test_the_grammar_that_is_taken(expression: str) -> None:
    """Lists, ranges, steps, names, last days, nth weekdays, leading seconds, and `?` for `*`."""
    check(expression, UTC, START)


def test_either_day_is_enough_when_both_are_restricted() -> None:
    """The first of the month and every Monday: the month's first day is not lost in a short month."""
    found = list(islice(instants("0 9 1 * 1", UTC, datetime(2026, 2, 25, tzinfo=UTC)), 2))
    assert [f"{instant:%m-%d}" for instant in found] == ["03-01", "03-02"]


def test_a_time_in_the_gap_is_due_right_after_it() -> None:
    """02:30 does not exist on 8 March in New York: due at 03:00, and the next day at 02:30 again."""
    assert local("30 2 * * *", NEW_YORK, "2026-03-07T12:00", 2) == ["03-08 03:00", "03-09 02:30"]


def test_two_times_in_the_gap_are_one_instant() -> None:
    """02:10 and 02:50 both move to the end of the gap, which is due once."""
    assert local("10,50 2 * * *", NEW_YORK, "2026-03-08T00:00", 2) == ["03-08 03:00", "03-09 02:10"]


def test_seconds_do_not_change_what_a_time_in_the_gap_means() -> None:
    """An expression with a seconds field keeps the same rule."""
    assert local("0 30 2 * * *", NEW_YORK, "2026-03-07T12:00", 2) == ["03-08 03:00", "03-09 02:30"]


def test_a_repeated_time_is_due_once() -> None:
    """01:30 comes twice on 1 November in New York: due the first time only, also if asked in between."""
    assert local("30 1 * * *", NEW_YORK, "2026-11-01T00:00", 2) == ["11-01 01:30", "11-02 01:30"]
    between = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    assert next(instants("30 1 * * *", NEW_YORK, between)) == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def test_a_cadence_keeps_its_pace_over_the_repeated_hour() -> None:
    """Every half hour stays every half hour, so the repeated hour counts twice."""
    found = list(islice(instants("*/30 * * * *", NEW_YORK, datetime(2026, 11, 1, 5, tzinfo=UTC)), 6))
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}


def test_half_an_hour_of_change_loses_nothing() -> None:
    """Lord Howe turns back by 30 minutes at 02:00: every ten minutes from 02:00 are still due."""
    zone = ZoneInfo("Australia/Lord_Howe")
    found = local("*/10 2 * * *", zone, "2026-04-04T12:00", 6)
    assert found == [f"04-05 02:{minute:02}" for minute in range(0, 60, 10)]


# What the lineage's grammar took and refused, with its first instants in UTC after the start of 2026.
TAKEN = (
    ("0 9 * * *", ("01-01 09:00:00", "01-02 09:00:00")),
    ("  0   9 *  * * ", ("01-01 09:00:00", "01-02 09:00:00")),
    ("30 0 9 * * *", ("01-01 09:00:30", "01-02 09:00:30")),
    ("30 0 9 * * * *", ("01-01 09:00:30", "01-02 09:00:30")),
    ("? 9 ? * *", ("01-01 09:00:00", "01-01 09:01:00")),
    ("0,20,40 9-10 * * *", ("01-01 09:00:00", "01-01 09:20:00", "01-01 09:40:00", "01-01 10:00:00")),
    ("10-30/10 9 * * *", ("01-01 09:10:00", "01-01 09:20:00", "01-01 09:30:00", "01-02 09:10:00")),
    ("*/59 9 * * *", ("01-01 09:00:00", "01-01 09:59:00")),
    ("0 0 * * 7", ("01-04 00:00:00", "01-11 00:00:00")),
    ("0 0 * * 0", ("01-04 00:00:00", "01-11 00:00:00")),
    ("0 0 * * 5-7", ("01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00", "01-09 00:00:00")),
    ("0 0 * * fri-SUN", ("01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00", "01-09 00:00:00")),
    ("0 0 * jan,MAR Mon", ("01-05 00:00:00", "01-12 00:00:00")),
    ("0 0 L * *", ("01-31 00:00:00", "02-28 00:00:00")),
    ("0 0 LW * *", ("01-30 00:00:00", "02-27 00:00:00")),
    ("0 0 * * 1#2", ("01-12 00:00:00", "02-09 00:00:00")),
    ("0 0 * * 5L", ("01-30 00:00:00", "02-27 00:00:00")),
    ("0 9 13 * 5", ("01-02 09:00:00", "01-09 09:00:00", "01-13 09:00:00", "01-16 09:00:00")),
    ("@weekly", ("01-04 00:00:00", "01-11 00:00:00")),
    ("@Yearly", ("01-01 00:00:00",)),
)
REFUSED = (
    *("* * *", "* * * * * * * *", "0 9 * * * * 2030", "5-1 * * * *", "60 * * * *", "* * 32 * *", "* * * 0 *"),
    *("a * * * *", "/5 * * * *", "*/0 * * * *", "*/ * * * *", "1,, * * * *", "@reboot", "@every 5m", "@soon"),
    *("0 0 15W * *", "0 0 W15 * *", "0 9 1-7 * +MON", "2026-03-01T09:00", "0 0 30 2 *", "0 0 31 2,4 *", ""),
)


@pytest.mark.parametrize(("expression", "expected"), TAKEN, ids=lambda value: str(value)[:20])
def test_what_the_lineage_took_means_the_same(expression: str, expected: tuple[str, ...]) -> None:
    """Each form of its grammar that we take is due when it was due there."""
    found = islice(instants(expression, UTC, START - timedelta(seconds=1)), len(expected))
    assert tuple(f"{instant:%m-%d %H:%M:%S}" for instant in found) == expected


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_taken_is_refused_with_a_way_out(expression: str) -> None:
    """Nothing is read as something else: what the lineage refused, and what is never due or cannot be."""
    with pytest.raises(DorkError) as refusal:
        check(expression, UTC, START)
    assert refusal.value.code is ErrorCode.INVALID_CRON
    assert refusal.value.hint


def test_a_search_does_not_disturb_another() -> None:
    """Two searches of one expression, taken in turns, are each as if alone."""
    first = instants("0 9 * * *", UTC, START)
    second = instants("0 9 * * *", UTC, START + timedelta(days=10))
    found = [(next(first).day, next(second).day) for _ in range(3)]
    assert found == [(1, 11), (2, 12), (3, 13)]
