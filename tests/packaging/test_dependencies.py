"""What the package imports is what it declares."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.test_locks import PROJECT, ROOT


def _imported() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                yield name.split(".", 1)[0], str(path.relative_to(ROOT))


def test_every_import_is_declared() -> None:
    """The package imports the standard library, itself and what it declares; nothing is there by luck."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    users = [text for name in extras if name not in ("dev", "bench") for text in extras[name]]
    declared = {canonicalize_name(Requirement(text).name) for text in (*project["dependencies"], *users)}
    distributions = packages_distributions()
    undeclared = {
        f"{name} in {path}"
        for name, path in _imported()
        if name != "dorkos"
        and name not in sys.stdlib_module_names
        and not declared & {canonicalize_name(found) for found in distributions.get(name, [])}
    }
    assert not undeclared, sorted(undeclared)
