"""What a shape is, how an answer differs from one, and what a row of the tables of shapes says.

A shape is a type, `None`, a literal value, a set of words, a tuple of shapes of which one must hold, a list
of the one shape that its items have (at least one, so that nothing passes unseen), or a dict. A key that ends
in `?` may be absent, but is never null unless its shape says so. Other keys may stand beside those of a dict:
what is ours is added, and nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dorkos.clock import from_iso

Shape = Any


@dataclass(frozen=True)
class Some:
    """A list that may be empty."""

    item: Shape


@dataclass(frozen=True)
class MapOf:
    """An object whose keys are data."""

    value: Shape


@dataclass(frozen=True)
class Row:
    """One request, and what DorkOS for Node answers to it.

    `call` is `METHOD /path?query`, or the name of a tool, for which any `status` but 200 means an error.
    `{name[key]}` in it and in `given` stands for a part of the answer that an earlier row kept under `keep`.
    Where ours differs on purpose, `status` and `shape` are ours; `departs` says what is different, and why.
    """

    call: str
    status: int
    shape: Shape
    given: Any = None
    keep: str = ""
    departs: str = ""
    patient: bool = False
    """Whether what it asks about takes its time, so that it is asked again until it agrees."""


def deviations(found: Any, shape: Shape, at: str = "answer") -> list[str]:
    """Where an answer is not of the shape, each as a line."""
    if isinstance(shape, dict):
        return _keys(found, shape, at)
    if isinstance(shape, list | Some | MapOf):
        return _many(found, shape, at)
    if isinstance(shape, tuple):
        tried = [deviations(found, one, at) for one in shape]
        return [] if [] in tried else tried[0]
    return [] if _is(found, shape) else [f"{at}: {found!r} is not {_called(shape)}"]


def filled(template: Any, kept: Mapping[str, Any]) -> Any:
    """The template with what earlier rows kept in its places."""
    if isinstance(template, str):
        return template.format_map(kept) if re.search(r"\{\w", template) else template
    if isinstance(template, dict):
        return {key: filled(value, kept) for key, value in template.items()}
    return [filled(value, kept) for value in template] if isinstance(template, list) else template


def iso(value: object) -> bool:
    """An instant as the wire writes it: UTC, milliseconds, `Z`."""
    return isinstance(value, str) and len(value) == 24 and value.endswith("Z") and bool(from_iso(value))


def ulid(value: object) -> bool:
    """An id."""
    return isinstance(value, str) and re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", value) is not None


def _keys(found: Any, shape: dict[str, Shape], at: str) -> list[str]:
    if not isinstance(found, dict):
        return [f"{at}: {found!r} is no object"]
    lines: list[str] = []
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in found:
            lines += deviations(found[key], inner, f"{at}.{key}")
        elif key == name:
            lines.append(f"{at}.{key} is absent")
    return lines


def _many(found: Any, shape: Shape, at: str) -> list[str]:
    if isinstance(shape, MapOf):
        if not isinstance(found, dict):
            return [f"{at}: {found!r} is no object"]
        return [
            line for key, value in found.items() for line in deviations(value, shape.value, f"{at}.{key}")
        ]
    if not isinstance(found, list):
        return [f"{at}: {found!r} is no array"]
    if isinstance(shape, list) and not found:
        return [f"{at} is empty, so nothing of it was compared"]
    item = shape.item if isinstance(shape, Some) else shape[0]
    return [line for n, value in enumerate(found) for line in deviations(value, item, f"{at}[{n}]")]


def _is(found: Any, shape: Shape) -> bool:
    if shape is Any:
        return True
    if isinstance(shape, type):
        wanted = (int, float) if shape is float else shape
        return isinstance(found, wanted) and (shape is bool or not isinstance(found, bool))
    if isinstance(shape, frozenset | set):
        return found in shape
    if callable(shape):
        return bool(shape(found))
    return bool(type(found) is type(shape) and found == shape)


def _called(shape: Shape | Callable[[object], bool]) -> str:
    return getattr(shape, "__name__", None) or repr(shape)
