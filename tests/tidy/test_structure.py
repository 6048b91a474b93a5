"""What the syntax tree shows: facts stated, names found in one place, packages without code of their own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.rules import ROOT

_VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def _trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_test_states_its_fact() -> None:
    """Each test function has a docstring that says what it proves."""
    silent = [
        f"{path}:{function.lineno} {function.name}"
        for path, tree in _trees("tests")
        for function in _functions(tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not silent, silent


def test_every_module_says_what_it_is_about() -> None:
    """Each module of the package and of the tests begins with a docstring."""
    silent = [
        path
        for folder in ("src", "tests", "scripts")
        for path, tree in _trees(folder)
        if not ast.get_docstring(tree)
    ]
    assert not silent, silent


def test_packages_hold_no_code_of_their_own() -> None:
    """An `__init__.py` is a docstring, so each name has one home; only the version stands in the top one."""
    busy = []
    for path, tree in _trees("src"):
        if Path(path).name != "__init__.py":
            continue
        body = [node for node in tree.body if not isinstance(node, ast.Expr)]
        if Path(path).parent.name == "dorkos":
            body = [node for node in body if not isinstance(node, ast.Assign)]
        if body:
            busy.append(path)
    assert not busy, busy


def test_no_module_is_a_drawer() -> None:
    """No module is named for being useful instead of for one thing."""
    drawers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*")
        if path.stem in _VAGUE and path.suffix != ".pyc"
    ]
    assert not drawers, drawers


_LONGEST = 600
# A migration that has landed is frozen, whatever its length: its checksum stands in the ledger.
_FROZEN = {"src/dorkos/db/migrations/0004_full_schema.py"}


def test_no_file_is_too_long_to_be_about_one_thing() -> None:
    """No file of the package or its tests has more than 600 lines, but one that may not change any more."""
    long = {
        str(path.relative_to(ROOT))
        for folder in ("src", "tests", "scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > _LONGEST
    }
    assert long == _FROZEN


_RULE_WRITERS = {"src/dorkos/relay/rules.py"}


def test_access_rules_are_written_in_one_module() -> None:
    """Whoever writes them elsewhere forgets the revision, and running servers go on by the old ones.

    What writes whole tables from below, such as an import, puts the fleet on hold, which renews it.
    """
    writers = {
        path
        for path, tree in _trees("src")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _writes_rules(node)
    }
    assert writers == _RULE_WRITERS


def _writes_rules(call: ast.Call) -> bool:
    named = [argument.id for argument in call.args if isinstance(argument, ast.Name)]
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("insert", "update", "delete"):
        return False
    owner = call.func.value
    return "relay_rules" in named or (isinstance(owner, ast.Name) and owner.id == "relay_rules")
