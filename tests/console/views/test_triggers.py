"""The builder of triggers: every form it can show says what the API takes, and comes back as it was."""

from __future__ import annotations

import pytest

from dorkos.console.views.triggers import Trigger, fields_of, given, milliseconds, short, whole, words_of
from dorkos.errors import DorkError

CASES = [
    ({"kind": "every", "number": "15", "unit": "m"}, "@every 15m"),
    ({"kind": "daily", "time": "09:05"}, "5 9 * * *"),
    ({"kind": "weekly", "time": "18:00", "day-1": "on", "day-5": "on"}, "0 18 * * 1,5"),
    ({"kind": "monthly", "time": "00:30", "day": "15"}, "30 0 15 * *"),
    ({"kind": "cron", "cron": "*/10 * * * *"}, "*/10 * * * *"),
    ({"kind": "once", "at": "2027-03-01T09:00:00Z"}, "@at 2027-03-01T09:00:00Z"),
    ({"kind": "manual"}, "@manual"),
]


@pytest.mark.parametrize(("form", "words"), CASES)
def test_a_form_says_what_the_api_takes(form: dict[str, str], words: str) -> None:
    """Each kind in its own words."""
    assert words == words_of(form)


@pytest.mark.parametrize(("form", "words"), CASES)
def test_a_trigger_comes_back_as_the_kind_it_was(form: dict[str, str], words: str) -> None:
    """With the same fields."""
    trigger = fields_of(words)
    assert form["kind"] == trigger.kind
    shown = given(form)
    for name in form:
        if not name.startswith("day-"):
            assert getattr(shown, name) == getattr(trigger, name)
    if form["kind"] == "weekly":
        assert shown.days == trigger.days


@pytest.mark.parametrize(
    "words", ["0 9 * * 1-5", "0 9 1 * 1", "0 0 9 * * *", "@daily", "@every 90s", "99 99 * * *", "0 9 * 2 *"]
)
def test_what_the_builder_cannot_say_stays_an_expression(words: str) -> None:
    """Word for word, so that an edit of something else does not change it."""
    assert Trigger(kind="cron", cron=words) == fields_of(words)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"kind": "daily", "time": "25:00"}, "time"),
        ({"kind": "daily"}, "time"),
        ({"kind": "weekly", "time": "09:00"}, "days"),
        ({"kind": "nonsense", "time": "09:00"}, "kind"),
    ],
)
def test_what_a_form_cannot_mean_is_refused_by_its_field(form: dict[str, str], field: str) -> None:
    """In the shape that the API's refusals have."""
    with pytest.raises(DorkError) as refusal:
        words_of(form)
    assert refusal.value.details is not None
    assert [field] == list(refusal.value.details["fieldErrors"])  # type: ignore[call-overload]  # A mapping.


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90_000), ("1h30m", 5_400_000), ("2 h", 7_200_000), ("", None)]
)
def test_durations_are_read_as_people_write_them(text: str, value: int | None) -> None:
    """An empty field is none."""
    assert value == milliseconds({"f": text}, "f")


@pytest.mark.parametrize("text", ["90", "soon", "-1s", "1h x", "9" * 5000 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit could mean anything."""
    with pytest.raises(DorkError):
        milliseconds({"f": text}, "f")


@pytest.mark.parametrize("value", [1, 999, 1000, 90_000, 3_600_000, 86_400_000, 86_400_001, None])
def test_a_duration_shown_in_a_field_is_read_back_as_it_was(value: int | None) -> None:
    """To the millisecond."""
    assert value == milliseconds({"f": short(value)}, "f")


@pytest.mark.parametrize("text", ["1.5", "-1", "x", "\u0661"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    """Digits alone count, and those that everybody reads."""
    with pytest.raises(DorkError):
        whole({"f": text}, "f")
