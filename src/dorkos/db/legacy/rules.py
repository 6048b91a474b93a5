"""Access rules of the lineage. What cannot be understood must not open anything: it denies."""

from __future__ import annotations

import json
from datetime import datetime

from dorkos.db.legacy.addresses import is_rule_pattern
from dorkos.db.legacy.home import ABSENT, UNREADABLE, LegacyHome
from dorkos.db.legacy.ids import derived_id
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.values import Values
from dorkos.vocabulary import RuleAction

FILE = "relay/access-rules.json"
_TABLE = "relay_rules"
_EVERYTHING = ">"
# The largest number that every reader of JSON keeps, so that nothing can stand above it.
_HIGHEST = 2**53 - 1


def collect(
    home: LegacyHome, report: Report, now: datetime
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The rows of `relay_rules`, and what was kept of replaced values, for `system_state`.

    Order decides among equal priorities: it becomes the position. No file means no rules; a file or an
    entry that cannot be read means that nobody may send to anybody until a person has looked.
    """
    document = home.document(FILE)
    if document is ABSENT:
        return [], []
    if document is UNREADABLE:
        return [_deny_all(report, "file", now, f"{FILE} could not be read.")], []
    if not isinstance(document, list):
        report.unreadable(FILE, str(home.path / FILE), "it is JSON, but no list of rules")
        return [_deny_all(report, "file", now, f"{FILE} held no list of rules.")], []
    values = Values(report, FILE, now=now, from_json=True)
    report.found(FILE, 0)
    rows = [_rule(report, values, position, entry, now) for position, entry in enumerate(document)]
    return rows, values.rows()


def _rule(report: Report, values: Values, position: int, entry: object, now: datetime) -> dict[str, object]:
    key = f"{position}:{json.dumps(entry, sort_keys=True)}"
    fault = _fault_of(entry)
    if fault is not None or not isinstance(entry, dict):
        report.unreadable(FILE, f"{FILE}, entry {position + 1}", f"{fault}; everything is denied instead")
        return _deny_all(
            report, key, now, f"Entry {position + 1} of {FILE} cannot be understood: {fault}.", position
        )
    report.found(FILE)
    row_id = _id_of(key)
    action = entry.get("action")
    if action not in list(RuleAction):
        values.keep(_TABLE, row_id, "action", action, "was neither allow nor deny, which denied, and is deny")
    beyond = {
        name: value for name, value in entry.items() if name not in ("from", "to", "action", "priority")
    }
    for name, value in beyond.items():
        if name != "description":
            values.keep(_TABLE, row_id, name, value, "has no column")
    return {
        "id": row_id,
        "from_pattern": entry["from"],
        "to_pattern": entry["to"],
        "action": RuleAction.ALLOW if action == RuleAction.ALLOW else RuleAction.DENY,
        "priority": entry["priority"],
        "position": position,
        "description": values.text(_TABLE, row_id, "description", beyond.get("description")),
        "created_at": now,
        PART: FILE,
    }


def _fault_of(entry: object) -> str | None:
    """Why an entry is no rule that can be understood, as a clause; None if it is one."""
    if not isinstance(entry, dict):
        return "it is no object"
    for name in ("from", "to"):
        if not is_rule_pattern(entry.get(name)):
            return f"`{name}` is no pattern"
    priority = entry.get("priority")
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) >= _HIGHEST:
        return "`priority` is no whole number that fits"
    return None


def _deny_all(report: Report, key: str, now: datetime, why: str, position: int = 0) -> dict[str, object]:
    report.note(f"Every message is denied: {why} Mend the rules, then remove that rule.")
    return {
        "id": _id_of(f"deny:{key}"),
        "from_pattern": _EVERYTHING,
        "to_pattern": _EVERYTHING,
        "action": RuleAction.DENY,
        "priority": _HIGHEST,
        "position": position,
        "description": f"{why} Until a person has looked, nobody may send to anybody.",
        "created_at": now,
        PART: FILE,
    }


def _id_of(key: str) -> str:
    """Of no time: a rule tells none, and the time of this import would not be found by the next."""
    return derived_id(f"{_TABLE}:{key}", None)
