"""What docs/mesh.md says of manifests and discovery is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import typer
from pydantic.alias_generators import to_snake

from dorkos.cli.mesh import app
from dorkos.mesh.discovery import DEFAULT_LIMITS
from dorkos.mesh.manifest import MAX_BYTES, Manifest, parse_manifest
from dorkos.mesh.operations import OPERATIONS
from dorkos.mesh.strategies.order import STRATEGIES
from dorkos.mesh.territory import EXCLUDED, KEEP_OUT, VIRTUAL, is_walked
from dorkos.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mesh.md"


def section(heading: str) -> str:
    """The text below a heading, up to the next."""
    _, found, text = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    assert found, f"docs/mesh.md has no section {heading}"
    return text.partition("\n## ")[0]


def words(text: str) -> set[str]:
    """What stands there as code, blocks aside."""
    return set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def test_the_strategies_stand_in_the_order_they_are_asked() -> None:
    """Each with every mark it knows a project by."""
    rows = [line.split("|")[1:5] for line in section("Discovery").splitlines() if line.startswith("| `")]
    assert [words(row[0]).pop() for row in rows] == [strategy.name for strategy in STRATEGIES]
    for row, strategy in zip(rows[1:], STRATEGIES[1:], strict=True):
        assert words(row[1]) | words(row[3]) == strategy.markers


def test_what_is_passed_over_is_listed() -> None:
    """All names, all marks, and examples of each ending."""
    text = section("Discovery").partition("**What is passed over**")[2]
    assert (EXCLUDED | KEEP_OUT | VIRTUAL) - words(text) == set()
    endings = {word for word in words(text) if re.fullmatch(r"\.[a-z]+", word)} - {".dork"}
    assert len(endings) == 9
    assert [ending for ending in endings if is_walked(f"agent{ending}")] == []


def test_the_bounds_are_those_of_the_code() -> None:
    """Depth, directories, seconds, candidates and problems; the size of a manifest."""
    text = section("Discovery")
    limits = DEFAULT_LIMITS
    assert f"{limits.depth} levels" in text
    assert f"{limits.directories:,} directories, {limits.seconds:g} seconds" in text
    assert f"{limits.candidates:,} candidates, {limits.problems:,}\nproblems" in text
    assert f"{MAX_BYTES // 1024} KiB" in section("Manifest")


def test_the_manifest_that_is_shown_is_valid() -> None:
    """Somebody will copy it."""
    shown = re.search(r"```json\n(.*?)```", section("Manifest"), re.DOTALL)
    assert shown is not None
    assert isinstance(parse_manifest(shown[1].encode(), Path("agent.json")), Manifest)


def test_every_command_that_is_named_exists_with_its_options() -> None:
    """And each that exists is named."""
    known = cast(typer.core.TyperGroup, typer.main.get_command(app)).commands
    page = words(PAGE.read_text(encoding="utf-8"))
    named = [line.split()[2:] for line in page if line.startswith("dorkos mesh ")]
    walk = section("A walk")
    named += [line.split()[3:] for line in walk.splitlines() if line.startswith("$ dorkos mesh ")]
    for verb, *rest in named:
        options = {option for parameter in known[verb].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, verb
    assert {verb for verb, *_ in named} == set(known)


def test_every_address_that_is_named_exists() -> None:
    """By its method; the stream beside its operation."""
    spoken = words(PAGE.read_text(encoding="utf-8"))
    named = {word.partition("?")[0] for word in spoken if re.match(r"[A-Z]+ /api/", word)}
    known = {f"{operation.method} {operation.path}" for operation in OPERATIONS}
    assert named <= known | {"POST /api/mesh/discover/stream"}
    assert len(named) > 5


def test_every_setting_that_is_named_exists_with_the_default_that_is_told() -> None:
    """The number stands in parentheses behind it."""
    text = PAGE.read_text(encoding="utf-8")
    assert words(text) & {"mesh.reconcileSeconds", "mesh.archiveDays", "mesh.tokenDays", "mesh.scanRoots"}
    for part, name, told in re.findall(r"`(mesh|relay)\.(\w+)`(?: \((\d+)\))?", text):
        value = getattr(getattr(Settings(), part), to_snake(name))
        assert told in ("", str(value)), name
