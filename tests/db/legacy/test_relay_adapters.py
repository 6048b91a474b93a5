"""Adapters and subscriptions of the lineage: nothing comes alive, and secrets stand apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dorkos.db.legacy.adapter_secrets import joined
from tests.db.legacy.relay_kit import HOMES, Collected, collect, collected, expected

_FILE = "relay/adapters.json"
_SUBSCRIPTIONS = "relay/subscriptions.json"


def _with_adapters(folder: Path, *entries: object) -> Collected:
    (folder / "relay").mkdir()
    (folder / _FILE).write_text(json.dumps({"adapters": entries}), "utf-8")
    return collect(folder)


def _report(read: Collected) -> str:
    return json.dumps(read.report.answer(), ensure_ascii=False)


@pytest.mark.parametrize("home", HOMES)
def test_every_adapter_is_there_as_it_was(home: str) -> None:
    """Settings and secrets together are the original, the switch stands as it stood, the rest is extra."""
    rows = collected(home).rows["relay_adapters"]
    entries = expected(home)["files"][_FILE]["adapters"]
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        assert (row["id"], row["type"], row["enabled"]) == (entry["id"], entry["type"], entry["enabled"])
        assert joined(row["config"], row["secrets"]) == entry["config"]
        assert row["extra"] == {
            name: value for name, value in entry.items() if name not in ("id", "type", "enabled", "config")
        }


@pytest.mark.parametrize("home", HOMES)
def test_no_secret_is_where_an_answer_or_a_report_could_show_it(home: str) -> None:
    """Every secret of the fixtures begins with `fake-`, or follows the word Bearer."""
    read = collected(home)
    for row in read.rows["relay_adapters"]:
        assert "fake-" not in json.dumps([row["config"], row["extra"]])
    assert "fake-telegram-token" in json.dumps([row["secrets"] for row in read.rows["relay_adapters"]])
    assert "fake-" not in _report(read)
    assert "fake-" not in json.dumps(read.rows["system_state"])


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({"apiKey": "s", "API_KEY": "s", "x": 1}, {"x": 1}),
        ({"a": {"b": {"Secret": "s", "c": 2}}}, {"a": {"b": {"c": 2}}}),
        ({"accounts": [{"name": "n", "password": "s"}]}, {}),
        ({"names": ["a", "b"]}, {"names": ["a", "b"]}),
        ({"url": "https://user:s@example.com/x"}, {}),
        ({"url": "https://example.com/@x"}, {"url": "https://example.com/@x"}),
        ({"maxTokens": 5, "token": None}, {"maxTokens": 5, "token": None}),
        ({"headers": {"Authorization": "s", "X-Team": "t"}}, {"headers": {"X-Team": "t"}}),
        ({"credentials": {"user": "u", "pass": "s"}}, {}),
        ({"authtoken": "s", "previousSecret": "s", "Cookie": "s", "privateKey": "s"}, {}),
    ],
)
def test_secrets_are_known_by_their_names(
    tmp_path: Path, config: dict[str, Any], plain: dict[str, Any]
) -> None:
    """At any depth, and a list with one inside as a whole; together they are what was there."""
    read = _with_adapters(tmp_path, {"id": "a", "type": "plugin", "enabled": False, "config": config})
    (row,) = read.rows["relay_adapters"]
    assert row["config"] == plain
    assert joined(row["config"], row["secrets"]) == config


def test_a_secret_beside_the_settings_stands_apart_too(tmp_path: Path) -> None:
    """An unknown key is kept for whoever understands it, but not in the open."""
    entry = {"id": "a", "type": "plugin", "config": {}, "token": "s", "label": "mine"}
    (row,) = _with_adapters(tmp_path, entry).rows["relay_adapters"]
    assert row["extra"] == {"label": "mine"}
    assert row["secrets"] == {"$entry": {"token": "s"}}
    assert row["enabled"] is True


@pytest.mark.parametrize(
    "entry",
    [
        7,
        "fake-secret",
        None,
        [],
        {"type": "telegram", "enabled": True, "config": {"token": "fake-secret"}},
        {"id": "", "type": "telegram", "config": {}},
        {"id": "a", "config": {}},
        {"id": "a", "type": "telegram", "enabled": "yes", "config": {}},
        {"id": "a", "type": "telegram", "config": ["fake-secret"]},
        {"id": "a", "type": "telegram", "config": {"name": "\ud83d", "token": "fake-secret"}},
        {"id": "good", "type": "telegram", "config": {"token": "fake-secret"}},
    ],
)
def test_a_bad_entry_costs_only_itself_and_is_kept(tmp_path: Path, entry: object) -> None:
    """Disabled, reported by its place, whole, and with what may be secret apart; its neighbours stand."""
    good = {"id": "good", "type": "webhook", "enabled": True, "config": {}}
    last = {"id": "lineage-entry-2", "type": "webhook", "enabled": True, "config": {}}
    read = _with_adapters(tmp_path, good, entry, last)
    first, bad, third = read.rows["relay_adapters"]
    assert first["id"] == "good"
    assert first["enabled"] is True
    assert bad["enabled"] is False
    assert bad["config"] == {}
    assert third["enabled"] is (bad["id"] != "lineage-entry-2")
    assert len({row["id"] for row in (first, bad, third)}) == 3
    assert any("entry 2" in item.where for item in read.report.left_out)
    assert "fake-secret" not in _report(read)
    assert "fake-secret" not in json.dumps([bad["extra"], bad["config"]])
    held = bad["secrets"].get("$entry", {})
    if "json" in held:
        assert json.loads(held["json"]) == entry
    elif isinstance(entry, dict):
        assert joined(bad["extra"]["$entry"], held) == entry
    else:
        assert held["entry"] == entry


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"adapters": {}}'])
def test_a_file_without_adapters_is_reported(tmp_path: Path, text: str) -> None:
    """Nothing is made up, and the rest of the home goes on."""
    (tmp_path / "relay").mkdir()
    (tmp_path / _FILE).write_text(text, "utf-8")
    read = collect(tmp_path)
    assert read.rows["relay_adapters"] == []
    assert read.report.count_of(_FILE).unreadable == 1


@pytest.mark.parametrize("home", HOMES)
def test_subscriptions_are_kept_to_be_read(home: str) -> None:
    """As JSON in one row, and a person is told that none of them consumes."""
    read = collected(home)
    (row,) = (row for row in read.rows["system_state"] if row["key"] == "lineage:subscriptions")
    assert json.loads(row["value"]) == expected(home)["files"][_SUBSCRIPTIONS]
    assert any("consume nothing" in note for note in read.report.notes)
