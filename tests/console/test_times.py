"""Instants on the reader's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dorkos.console.times import Times

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "said"),
    [
        ("2026-03-29T11:59:58.000Z", "now"),
        ("2026-03-29T11:59:00.000Z", "1\u202fmin ago"),
        ("2026-03-29T14:30:00.000Z", "in 2\u202fh"),
        ("2026-03-01T12:00:00.000Z", "28\u202fd ago"),
        (None, "never"),
    ],
)
def test_how_long_ago_it_was(instant: str | None, said: str) -> None:
    """In the largest unit that fits."""
    assert said == Times(NOW, None).ago(instant)


def test_an_instant_is_shown_in_the_zone_of_its_reader() -> None:
    """Also across a clock change in the night before."""
    berlin = Times(NOW, "Europe/Berlin")
    assert berlin.at("2026-03-29T08:00:00.000Z") == "10:00:00"
    assert berlin.full("2026-03-28T08:00:00.000Z") == "Sat 28 Mar 2026, 09:00:00 CET"
    assert berlin.full("2026-03-29T08:00:00.000Z", "UTC") == "Sun 29 Mar 2026, 08:00:00 UTC"


@pytest.mark.parametrize("zone", [None, "", "Mars/Olympus", "../etc/passwd", "x" * 500])
def test_what_is_no_zone_is_taken_as_utc(zone: str | None) -> None:
    """The cookie that says it is the reader's to write."""
    assert Times(NOW, zone).zone_name == "UTC"


def test_instants_within_a_sentence_are_shown_on_the_readers_clock() -> None:
    """The rest of the sentence stays."""
    assert Times(NOW, "UTC").told("Due 2026-03-29T08:00:00.000Z, late.") == "Due 08:00:00, late."
