"""Sessions of Claude Code, as its own transcript folder tells them. They are read, never written.

Each session is a file `<id>.jsonl` in a folder named after the project. A line is a JSON object; lines of
another kind, damaged ones and half a line at the end are passed over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dorkos.clock import iso
from dorkos.plain_file import read_file

SESSIONS_MAX = 500
MESSAGES_MAX = 1000
_HEAD_BYTES = 16_384
_TAIL_BYTES = 16_384
_WHOLE_BYTES = 64 * 1024 * 1024
_TITLE = 80
_PREVIEW = 200
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MODES = frozenset({"default", "plan", "acceptEdits", "bypassPermissions"})


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation. `context_tokens` is how much the model had before it at its last answer."""

    id: str
    title: str
    created_at: str
    updated_at: str
    permission_mode: str
    preview: str | None
    model: str | None
    context_tokens: int | None
    cwd: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said, in words."""

    id: str
    role: str
    content: str
    timestamp: str | None


def transcripts_folder(environment: Mapping[str, str]) -> Path:
    """The folder of all projects: below CLAUDE_CONFIG_DIR, else below `.claude` of the user."""
    chosen = environment.get("CLAUDE_CONFIG_DIR")
    return (Path(chosen) if chosen else Path.home() / ".claude") / "projects"


def project_folder(transcripts: Path, cwd: Path) -> Path:
    """Where Claude Code keeps the transcripts of a project: all but letters and digits becomes `-`."""
    return transcripts / re.sub(r"[^A-Za-z0-9]", "-", str(cwd))


def sessions(folder: Path) -> list[Session]:
    """The sessions of a project, the last one changed first; at most five hundred."""
    files: list[tuple[float, Path]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, dot, ending = entry.name.rpartition(".")
                if dot and ending == "jsonl" and _ID.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    files.append((entry.stat().st_mtime, Path(entry.path)))
    except OSError:
        return []  # Nobody worked there with Claude Code yet.
    files.sort(reverse=True)
    return [found for _, path in files[:SESSIONS_MAX] if (found := _session(path)) is not None]


def session(folder: Path, session_id: str) -> Session | None:
    """One session, None if there is none of that id."""
    return _session(folder / f"{session_id}.jsonl") if _ID.fullmatch(session_id) else None


def messages(folder: Path, session_id: str) -> list[Message] | None:
    """The newest thousand messages of a session in their order, None if there is no such session."""
    if not _ID.fullmatch(session_id):
        return None
    try:
        text = read_file(folder / f"{session_id}.jsonl", _WHOLE_BYTES)
    except OSError:
        return None
    said = [message for line in _lines(text) if (message := _message(line)) is not None]
    return said[-MESSAGES_MAX:]


def _session(path: Path) -> Session | None:
    try:
        size, changed = path.stat().st_size, path.stat().st_mtime
        head = read_file(path, _HEAD_BYTES)
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return None
    first, last = list(_lines(head)), list(_lines(tail))
    both = [*first, *last]
    said = [message for line in both if (message := _message(line)) is not None]
    asked = [message.content for message in said if message.role == "user"]
    updated = iso(datetime.fromtimestamp(changed, UTC))
    return Session(
        id=path.stem,
        title=_short(asked[0], _TITLE) if asked else f"Session {path.stem[:8]}",
        created_at=_instant(first) or updated,
        updated_at=updated,
        permission_mode=_last(both, "permissionMode", _MODES) or "default",
        preview=_short(said[-1].content, _PREVIEW) if said else None,
        model=next((found for line in reversed(both) if (found := _model(line))), None),
        context_tokens=next((n for line in reversed(both) if (n := _context(line)) is not None), None),
        cwd=_last(both, "cwd", None),
    )


def _lines(text: bytes) -> Iterator[Mapping[str, Any]]:
    for line in text.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _message(line: Mapping[str, Any]) -> Message | None:
    role, body = line.get("type"), line.get("message")
    if role not in ("user", "assistant") or not isinstance(body, dict) or line.get("isMeta"):
        return None
    text = _text(body.get("content"))
    if not text:
        return None
    at = line.get("timestamp")
    return Message(str(line.get("uuid") or ""), role, text, at if isinstance(at, str) else None)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return _storable(content)
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return _storable("\n".join(text for text in texts if isinstance(text, str)))


def _storable(text: str) -> str:
    """Without half characters, which no answer can carry."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _short(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _instant(lines: list[Mapping[str, Any]]) -> str | None:
    return next((at for line in lines if isinstance(at := line.get("timestamp"), str)), None)


def _last(lines: list[Mapping[str, Any]], key: str, allowed: frozenset[str] | None) -> str | None:
    for line in reversed(lines):
        value = line.get(key)
        if isinstance(value, str) and (allowed is None or value in allowed):
            return _storable(value)
    return None


def _answer(line: Mapping[str, Any]) -> Mapping[str, Any]:
    body = line.get("message")
    return body if line.get("type") == "assistant" and isinstance(body, dict) else {}


def _model(line: Mapping[str, Any]) -> str | None:
    model = _answer(line).get("model")
    return model if isinstance(model, str) and not model.startswith("<") else None


def _context(line: Mapping[str, Any]) -> int | None:
    usage = _answer(line).get("usage")
    if not isinstance(usage, dict):
        return None
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = [usage.get(name) for name in names]
    return sum(count for count in counts if type(count) is int)
