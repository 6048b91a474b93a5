"""The rules a machine can judge line by line, and the files they look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent.parent

# What make, the tools and `make run` leave behind at the top; everything else in the tree is ours.
_NOT_OURS = {
    ".git",
    ".venv",
    ".dork",
    "dist",
    "build",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not stand on a line, where, and what to do instead."""

    name: str
    pattern: re.Pattern[str]
    concerns: Callable[[PurePosixPath], bool]
    advice: str


def _everywhere(_path: PurePosixPath) -> bool:
    return True


def _is_python(path: PurePosixPath) -> bool:
    return path.suffix == ".py"


def _is_test(path: PurePosixPath) -> bool:
    return path.parts[0] == "tests" and _is_python(path)


def _outside_fixtures(path: PurePosixPath) -> bool:
    # What others wrote and we ship as it is says what they left over.
    return path.parts[:2] != ("tests", "fixtures") and "vendor" not in path.parts


# A one-letter class such as [D] keeps a rule from finding itself.
RULES = (
    Rule(
        "sleep in a test",
        re.compile(r"\b(?:time|asyncio|anyio)\.sleep\b|from (?:time|asyncio|anyio) import .*\bsleep\b"),
        _is_test,
        "wait for a signal of the loop, an event, or move the manual clock",
    ),
    Rule(
        "skipped test",
        re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail|importorskip)|unittest\.skip"),
        _is_test,
        "make it run, or remove it together with the promise it stands for",
    ),
    Rule(
        "leftover marker",
        re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b"),
        _outside_fixtures,
        "do it, or leave it out",
    ),
    Rule(
        "unfinished code",
        re.compile(r"pragma[:] no cover|\bNotImplemented[E]rror\b"),
        _is_python,
        "finish it; an abstract method is declared with abc",
    ),
    Rule(
        "ignore without a reason",
        re.compile(r"#\s*(?:type:\s*ignor[e]|noq[a])\b(?!.*(?:#| -) \w)"),
        _is_python,
        "give the reason on the same line",
    ),
    Rule(
        "path of one machine",
        re.compile(r"(?<![\w.~<>-])/(?:work|root|home/\w+|Users/\w+)(?:/|\b)"),
        _outside_fixtures,
        "use a temporary directory, `~` or a made-up root such as /srv",
    ),
    Rule(
        "name of a package registry",
        re.compile(
            r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|crates\.io|rubygems\.org|anaconda\.org)\b"
        ),
        _everywhere,
        "leave the choice of a registry to the configuration of pip",
    ),
)


def findings(rule: Rule, path: PurePosixPath, text: str) -> list[str]:
    """`path:line: what` for each line that breaks the rule."""
    if not rule.concerns(path):
        return []
    return [
        f"{path}:{number}: {rule.name}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        if rule.pattern.search(line)
    ]


def text_files() -> Iterator[tuple[PurePosixPath, str]]:
    """Every text file of the tree, with its text."""
    for path in sorted(_walk(ROOT)):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield PurePosixPath(path.relative_to(ROOT).as_posix()), text


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink() or path.name == "__pycache__" or (folder == ROOT and path.name in _NOT_OURS):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
