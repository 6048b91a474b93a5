"""Reading agents, denials and counted calls: from `dork.db`, and from `mesh/mesh.db` that it replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.ids import derived_id, ulid_of
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.rows import DRIZZLE_DATABASES, Cells, Row, Rows, key_of, unite
from dorkos.db.legacy.values import Values, read_instant
from dorkos.vocabulary import AgentRuntime, AgentStatus, LimitKind

_AGENTS = "agents"
_DENIALS = "agent_denials"
_BUCKETS = "rate_limit_buckets"
_OLD = "mesh/mesh.db"
_RUNTIMES = {
    word.value: word
    for word in (AgentRuntime.CLAUDE_CODE, AgentRuntime.CURSOR, AgentRuntime.CODEX, AgentRuntime.OTHER)
}
_STATUSES = {word.value: word for word in (AgentStatus.ACTIVE, AgentStatus.INACTIVE, AgentStatus.UNREACHABLE)}
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")

_Read = Callable[[Values, Mapping[str, object], int], Row]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows of one kind: our table, its name in `mesh/mesh.db`, what tells two apart, how to read one."""

    table: str
    old_table: str
    keys: tuple[str, ...]
    read: _Read


def collect(home: LegacyHome, report: Report, now: datetime) -> Rows:
    """The rows of `agents`, `agent_denials` and `rate_limit_buckets`, and what was kept of them."""
    agents, kept = _united(home, report, now, _Kind(_AGENTS, _AGENTS, ("id", "project_path"), _agent))
    denials, kept_of_denials = _united(home, report, now, _Kind(_DENIALS, "denials", ("id", "path"), _denial))
    buckets, kept_of_buckets = _united(
        home, report, now, _Kind(_BUCKETS, "budget_counters", ("id",), _bucket)
    )
    for bucket in buckets:
        del bucket["id"]
    return {
        _AGENTS: agents,
        _DENIALS: denials,
        _BUCKETS: buckets,
        "system_state": [*kept, *kept_of_denials, *kept_of_buckets],
    }


def _united(home: LegacyHome, report: Report, now: datetime, kind: _Kind) -> tuple[list[Row], list[Row]]:
    """Every row of one kind, those of `dork.db` first, which stand where two tell of the same."""
    rows: list[Row] = []
    kept: list[Row] = []
    for name, stored_table in (*((name, kind.table) for name in DRIZZLE_DATABASES), (_OLD, kind.old_table)):
        database = home.database(name)
        if database is None or stored_table not in database.tables():
            continue
        part = f"{name} {stored_table}"
        values = Values(report, part, now=now)
        report.found(part, 0)
        further: list[Row] = []
        for number, stored in enumerate(database.rows(stored_table)):
            report.found(part)
            further.append({**kind.read(values, _in_our_words(stored), number), PART: part})
        rows = unite(rows, further, kind.keys, part=part, values=values, report=report)
        kept += values.rows()
    return rows, kept


# Of `mesh/mesh.db`, where they differ from ours.
_COLUMNS = {
    "registered_by": "approver",
    "denied_by": "denier",
    "denied_at": "created_at",
    "call_count": "count",
}


def _in_our_words(stored: Mapping[str, object]) -> dict[str, object]:
    return {_COLUMNS.get(column, column): value for column, value in stored.items()}


def _agent(values: Values, stored: Mapping[str, object], number: int) -> Row:
    old_id = key_of(stored.get("id"), number)
    new_id = ulid_of(_AGENTS, old_id, read_instant(stored.get("registered_at")))
    values.note_id(_AGENTS, new_id, old_id)
    if "manifest_json" in stored:
        stored = _with_manifest(Cells(values, _AGENTS, new_id, stored))
    cells = Cells(values, _AGENTS, new_id, stored)
    status = cells.word("status", _STATUSES, absent=AgentStatus.ACTIVE, otherwise=AgentStatus.INACTIVE)
    project_path, registered_at = _project_path(cells), cells.instant("registered_at")
    # `mesh/mesh.db` told no time of the last change.
    updated_at = cells.instant("updated_at") if "updated_at" in stored else registered_at
    return {
        "id": new_id,
        "name": cells.required("name"),
        "runtime": cells.word("runtime", _RUNTIMES, absent=AgentRuntime.OTHER, otherwise=AgentRuntime.OTHER),
        "project_path": project_path,
        "namespace": _namespace(cells, project_path),
        "capabilities_json": _words(cells, "capabilities_json") or [],
        # Text for people is no argv; guessing one would arm a command that nobody wrote.
        "entrypoint": _words(cells, "entrypoint") or None,
        "version": cells.text("version"),
        "description": cells.text("description"),
        "approver": cells.text("approver"),
        "status": status,
        "last_seen_at": cells.optional_instant("last_seen_at"),
        "last_seen_event": cells.text("last_seen_event"),
        "registered_at": registered_at,
        "updated_at": updated_at,
        "scan_root": cells.text("scan_root") or "",
        "behavior_json": cells.structure("behavior_json", dict),
        "budget_json": cells.structure("budget_json", dict),
        "persona": cells.text("persona"),
        "persona_enabled": cells.flag("persona_enabled", absent=True, otherwise=False),
        "color": cells.text("color"),
        "icon": cells.text("icon"),
        # The lineage counted the time it was away from this change on.
        "unreachable_since": updated_at if status is AgentStatus.UNREACHABLE else None,
    }


# What `manifest_json` repeats of its row, by the names in both.
_REPEATED = {
    "id": "id",
    "name": "name",
    "description": "description",
    "runtime": "runtime",
    "projectPath": "project_path",
    "namespace": "namespace",
    "registeredAt": "registered_at",
    "registeredBy": "approver",
    "scanRoot": "scan_root",
}
_ABSENT = object()


def _with_manifest(cells: Cells) -> dict[str, object]:
    """The row with what stands in its manifest alone. A manifest that says yet more is kept whole."""
    manifest = cells.structure("manifest_json", dict)
    if manifest is None:
        return dict(cells.stored)
    row = {**cells.stored}
    repeated = {column: manifest.pop(key, _ABSENT) for key, column in _REPEATED.items()}
    capabilities = manifest.pop("capabilities", _ABSENT)
    if capabilities is not _ABSENT and capabilities != cells.structure("capabilities_json", list):
        cells.keep("manifest_json", "told other capabilities than its row, which stands")
    if any(value not in (_ABSENT, row.get(column)) for column, value in repeated.items()):
        cells.keep("manifest_json", "told something else than its row, which stands")
    for key, column in (("behavior", "behavior_json"), ("budget", "budget_json")):
        row[column] = manifest.pop(key, None)
    if manifest:
        cells.keep("manifest_json", "held more than there are columns for")
    return row


def _project_path(cells: Cells) -> str:
    """Its folder, without a slash at the end and the like: one folder has one text here."""
    stored = cells.required("project_path")
    path = str(PurePath(stored)) if stored else stored
    if path != stored:
        cells.keep("project_path", f"is written {path}")
    return path


def _namespace(cells: Cells, project_path: str) -> str:
    """Its namespace; for an empty one what its address was made of: the name of its folder."""
    namespace = cells.text("namespace")
    if namespace:
        return namespace
    name = PurePath(project_path).name
    if not _TOKEN.fullmatch(name):
        name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "default"
    cells.keep("namespace", "was empty and became the name of its folder, as in its address")
    return name


def _words(cells: Cells, column: str) -> list[str] | None:
    found: list[str] | None = cells.structure(column, list)
    if found is None or all(isinstance(word, str) for word in found):
        return found
    cells.keep(column, "was not a list of texts and is empty")
    return None


def _denial(values: Values, stored: Mapping[str, object], number: int) -> Row:
    at = read_instant(stored.get("created_at"))
    if "id" in stored:
        old_id = key_of(stored["id"], number)
        new_id = ulid_of(_DENIALS, old_id, at)
        values.note_id(_DENIALS, new_id, old_id)
    else:
        new_id = derived_id(f"{_DENIALS}:{key_of(stored.get('path'), number)}", at)
    cells = Cells(values, _DENIALS, new_id, stored)
    return {
        "id": new_id,
        "path": cells.required("path"),
        "reason": cells.text("reason"),
        "denier": cells.text("denier"),
        "strategy": cells.text("strategy"),
        "created_at": cells.instant("created_at"),
    }


def _bucket(values: Values, stored: Mapping[str, object], number: int) -> Row:
    key = f"{key_of(stored.get('agent_id'), number)}:{key_of(stored.get('bucket_minute'), number)}"
    cells = Cells(values, _BUCKETS, key, stored)
    minute = cells.integer("bucket_minute")
    return {
        "id": key,
        "kind": LimitKind.AGENT,
        "agent_id": cells.required("agent_id"),
        # A minute long ago that no other row has: such a row counts for nothing.
        "bucket_minute": -number - 1 if minute is None else minute,
        "count": cells.integer("count") or 0,
    }
