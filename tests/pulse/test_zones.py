"""Time zones: only names of real zones, and the zone that schedules inherit."""

from __future__ import annotations

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.zones import Zones, load_zone, machine_zone


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "../../etc/passwd", "/etc/localtime", "Europe", "Europe/", "tzdata.zi",
        "posix/UTC", "right/UTC", "localtime", "posixrules", "Factory", "+02:00", "GMT+2", "Local",
        "Mars/Olympus_Mons", "Europe/Berlin ", "Europe/Berlin\x00", "Europe\\Berlin", "ü", "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_zone_is_refused(name: str) -> None:
    """Paths, folders, files that are no zones, offsets and unknown names are all `invalid_timezone`."""
    with pytest.raises(DorkError) as refusal:
        load_zone(name)
    assert refusal.value.code is ErrorCode.INVALID_TIMEZONE


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("utc", "UTC"),
        ("europe/BERLIN", "Europe/Berlin"),
        ("EST5EDT", "EST5EDT"),
        ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("Etc/GMT+2", "Etc/GMT+2"),
    ],
)
def test_names_are_found_in_any_case(name: str, key: str) -> None:
    """The zone has its real name, whatever the case it was written in."""
    assert load_zone(name).key.lower() == key.lower()


def test_a_schedule_without_a_zone_inherits_the_setting() -> None:
    """No zone of its own means the setting's; UTC means UTC."""
    zones = Zones("Asia/Tokyo")
    assert zones.resolve(None).key == "Asia/Tokyo"
    assert zones.resolve("UTC").key == "UTC"


def test_without_a_setting_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty setting means the machine's zone, which TZ names first."""
    monkeypatch.setenv("TZ", ":America/Lima")
    assert machine_zone() == "America/Lima"
    assert Zones(None).inherited.key == "America/Lima"


def test_a_machine_zone_that_is_none_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TZ that is no zone name never stops the start."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert load_zone(machine_zone()).key == machine_zone()


def test_a_setting_that_is_no_zone_is_refused() -> None:
    """The setting is named, so that the start fails with something to mend."""
    with pytest.raises(DorkError) as refusal:
        Zones("Mars/Olympus_Mons")
    assert refusal.value.code is ErrorCode.INVALID_SETTING
    assert "scheduler.timezone" in refusal.value.message
