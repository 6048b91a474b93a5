"""Access rules of the lineage: kept in their order, and denying whatever cannot be understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dorkos.vocabulary import RuleAction
from tests.db.legacy.relay_kit import HOMES, Collected, collect, collected, expected

_FILE = "relay/access-rules.json"


def _in_order(read: Collected) -> list[dict[str, Any]]:
    return sorted(read.rows["relay_rules"], key=lambda row: (-row["priority"], row["position"]))


def _with_rules(folder: Path, text: str) -> Collected:
    (folder / "relay").mkdir()
    (folder / _FILE).write_text(text, "utf-8")
    return collect(folder)


@pytest.mark.parametrize("home", HOMES)
def test_every_rule_is_there_in_the_order_that_decides(home: str) -> None:
    """First by priority, then by place in the file."""
    rows = _in_order(collected(home))
    assert [
        {
            "from": row["from_pattern"],
            "to": row["to_pattern"],
            "action": row["action"].value,
            "priority": row["priority"],
        }
        for row in rows
    ] == expected(home)["files"][_FILE]
    assert len({row["id"] for row in rows}) == len(rows)


def test_no_file_means_no_rules(tmp_path: Path) -> None:
    """Absent is not unreadable: nobody ever made a rule."""
    assert collect(tmp_path).rows["relay_rules"] == []


@pytest.mark.parametrize("text", ['[{"from": ">", "to"', "", '{"rules": []}', "null", "42"])
def test_a_file_that_cannot_be_understood_denies_everything(tmp_path: Path, text: str) -> None:
    """Reading it as no rules would open what somebody had closed."""
    read = _with_rules(tmp_path, text)
    (row,) = read.rows["relay_rules"]
    assert (row["from_pattern"], row["to_pattern"]) == (">", ">")
    assert row["action"] is RuleAction.DENY
    assert "access-rules.json" in row["description"]
    assert read.report.count_of(_FILE).unreadable == 1
    assert any("Every message is denied" in note for note in read.report.notes)


@pytest.mark.parametrize(
    "entry",
    [
        7,
        "deny all",
        [],
        {},
        {"from": ">", "action": "deny", "priority": 1},
        {"from": ">", "to": 5, "action": "deny", "priority": 1},
        {"from": "", "to": ">", "action": "deny", "priority": 1},
        {"from": "a.>.b", "to": ">", "action": "deny", "priority": 1},
        {"from": "a..b", "to": ">", "action": "deny", "priority": 1},
        {"from": "a\x00", "to": ">", "action": "deny", "priority": 1},
        {"from": ">", "to": "\ud83d", "action": "deny", "priority": 1},
        {"from": ">", "to": ">", "action": "deny"},
        {"from": ">", "to": ">", "action": "deny", "priority": 1.5},
        {"from": ">", "to": ">", "action": "deny", "priority": True},
        {"from": ">", "to": ">", "action": "deny", "priority": 2**60},
    ],
)
def test_an_entry_that_cannot_be_understood_denies_everything(tmp_path: Path, entry: object) -> None:
    """Above all others, which are kept; the entry is reported by its place."""
    allow = {"from": "a", "to": "b", "action": "allow", "priority": 2**53 - 2}
    read = _with_rules(tmp_path, json.dumps([allow, entry]))
    deny, kept = _in_order(read)
    assert (deny["from_pattern"], deny["to_pattern"], deny["action"]) == (">", ">", RuleAction.DENY)
    assert kept["priority"] == 2**53 - 2
    (left_out,) = read.report.left_out
    assert "entry 2" in left_out.where


@pytest.mark.parametrize("action", ["Allow", "permit", None, 1])
def test_any_action_but_allow_denies(tmp_path: Path, action: object) -> None:
    """As it did; the word itself is kept."""
    entry = {"from": "a", "to": "b", "action": action, "priority": 3}
    read = _with_rules(tmp_path, json.dumps([entry]))
    (row,) = read.rows["relay_rules"]
    assert row["action"] is RuleAction.DENY
    assert (row["from_pattern"], row["to_pattern"], row["priority"]) == ("a", "b", 3)
    assert [value.column for value in read.report.values] == ["action"]


def test_a_sender_was_never_checked_so_its_rule_may_hold_any_letters(tmp_path: Path) -> None:
    """A rule for `relay.human.zoë` decided for her, and does."""
    entry = {"from": "relay.human.zoë.*", "to": ">", "action": "deny", "priority": 3}
    (row,) = _with_rules(tmp_path, json.dumps([entry])).rows["relay_rules"]
    assert row["from_pattern"] == "relay.human.zoë.*"


def test_equal_rules_stay_two(tmp_path: Path) -> None:
    """And get the same ids at the next import, which makes it harmless."""
    entry = {"from": "a", "to": "b", "action": "deny", "priority": 3}
    first = _with_rules(tmp_path, json.dumps([entry, entry]))
    assert len(first.by_id("relay_rules")) == 2
    assert first.rows["relay_rules"] == collect(tmp_path).rows["relay_rules"]
