"""The rules see what they are for, and nothing in the tree breaks one."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.tidy.rules import RULES, Rule, findings, text_files

# The mark ¦ is taken out before a rule sees the line, so that a search of the tree does not find the samples.
_BROKEN = (
    ("sleep in a test", "tests/pulse/test_a.py", "    await asyncio.¦sleep(0.1)"),
    ("sleep in a test", "tests/crash/run.py", "time.¦sleep(1)"),
    ("sleep in a test", "tests/relay/test_b.py", "from time import monotonic, sl¦eep"),
    ("skipped test", "tests/mesh/test_a.py", '@pytest.mark.¦skipif(True, reason="later")'),
    ("skipped test", "tests/mesh/test_a.py", 'pytest.¦importorskip("psycopg")'),
    ("skipped test", "tests/mesh/test_a.py", "@pytest.mark.¦xfail"),
    ("leftover marker", "src/dorkos/app.py", "# TO¦DO: wire it"),
    ("leftover marker", "docs/concepts.md", "FIX¦ME"),
    ("unfinished code", "src/dorkos/app.py", "    raise NotImplemented¦Error"),
    ("unfinished code", "src/dorkos/app.py", "else:  # pragma¦: no cover"),
    ("ignore without a reason", "src/dorkos/app.py", "x = y  # type: ¦ignore[assignment]"),
    ("ignore without a reason", "src/dorkos/app.py", "x = y  # no¦qa: S603"),
    ("path of one machine", "tests/test_a.py", 'HOME = "/¦root"'),
    ("path of one machine", "docs/guide.md", "cd /¦home/somebody/project"),
    ("name of a package registry", "requirements.lock", "--index-url https://pypi.¦org/simple"),
)

_FINE = (
    ("sleep in a test", "src/dorkos/lifecycle.py", "await asyncio.¦sleep(1)"),
    ("leftover marker", "tests/fixtures/home/notes.md", "TO¦DO"),
    (
        "ignore without a reason",
        "src/dorkos/app.py",
        "x = y  # no¦qa: S603  # The user's own program.",
    ),
    ("ignore without a reason", "src/dorkos/app.py", "x = y  # type: ¦ignore[arg-type] - The stub is older."),
    ("path of one machine", "src/dorkos/app.py", 'route("/api/work/items")'),
    ("path of one machine", "docs/guide.md", "~/work/agents"),
    ("unfinished code", "docs/guide.md", "NotImplemented¦Error is a Python exception."),
)


def _found(name: str, path: str, sample: str) -> list[str]:
    rule = next(rule for rule in RULES if rule.name == name)
    return findings(rule, PurePosixPath(path), sample.replace("¦", ""))


@pytest.mark.parametrize(("name", "path", "sample"), _BROKEN)
def test_rule_sees_what_it_forbids(name: str, path: str, sample: str) -> None:
    """Each rule finds a line that breaks it; a rule that finds nothing would guard nothing."""
    assert _found(name, path, sample)


@pytest.mark.parametrize(("name", "path", "sample"), _FINE)
def test_rule_leaves_the_rest_alone(name: str, path: str, sample: str) -> None:
    """A line that only resembles a fault, or stands where the rule does not hold, passes."""
    assert not _found(name, path, sample)


def test_every_rule_has_a_sample() -> None:
    """No rule goes without a line that shows it at work."""
    assert {rule.name for rule in RULES} == {name for name, _, _ in _BROKEN}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.replace(" ", "-"))
def test_the_tree_is_tidy(rule: Rule) -> None:
    """No file of the project breaks the rule."""
    found = [line for path, text in text_files() for line in findings(rule, path, text)]
    assert not found, "\n".join([f"{rule.advice}:", *found])
