"""Slash commands of a project: the Markdown files below `.claude/commands`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dorkos.plain_file import read_file

_COMMANDS_MAX = 1000
_HEAD_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A command as Claude Code knows it, such as `/docs:write`. `namespace` is its folder, empty for none."""

    namespace: str
    name: str
    description: str
    argument_hint: str | None
    allowed_tools: tuple[str, ...] | None
    path: Path

    @property
    def full(self) -> str:
        """What one types."""
        return f"/{self.namespace}:{self.name}" if self.namespace else f"/{self.name}"


def scan(folder: Path) -> list[SlashCommand]:
    """The commands of the project in `folder`, by name; a file that cannot be read is left out.

    Links are not followed: they could lead out of the boundary.
    """
    root = folder / ".claude" / "commands"
    if root.resolve() != root:
        return []
    found = [command for path in _files(root) if (command := _read(root, path)) is not None]
    return sorted(found, key=lambda command: command.full)[:_COMMANDS_MAX]


def _files(root: Path) -> Iterator[Path]:
    for folder in (root, *_folders(root)):
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.endswith(".md") and entry.is_file(follow_symlinks=False)
                )
        except OSError:
            continue
        yield from (folder / name for name in names)


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _read(root: Path, path: Path) -> SlashCommand | None:
    try:
        text = read_file(path, _HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    facts = _front_matter(text)
    namespace = "" if path.parent == root else path.parent.name
    tools = facts.get("allowed-tools")
    return SlashCommand(
        namespace=namespace.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        name=path.stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        description=facts.get("description", ""),
        argument_hint=facts.get("argument-hint"),
        allowed_tools=tuple(_items(tools)) if tools else None,
        path=path,
    )


def _front_matter(text: str) -> dict[str, str]:
    """The `key: value` lines between the first two `---`; anything richer is not needed here."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    facts: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            return facts
        key, colon, value = line.partition(":")
        if colon and key == key.lstrip():
            facts[key.strip().lower()] = value.strip().strip("\"'")
    return {}  # It never ends: a thematic break, not front matter.


def _items(text: str) -> list[str]:
    return [item.strip().strip("\"'") for item in text.strip("[]").split(",") if item.strip()]
