"""The lock files: complete, hashed, equal to one another, and free of any place to download from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-bench.lock")

_DECLARED: dict[str, list[str]] = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-build.lock": PROJECT["build-system"]["requires"],
    "requirements-dev.lock": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgres"],
        *(d for d in PROJECT["project"]["optional-dependencies"]["dev"] if not d.startswith("dorkos")),
    ],
    "requirements-bench.lock": PROJECT["project"]["optional-dependencies"]["bench"],
}


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The one version it allows."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def _pins(name: str) -> Iterator[Pin]:
    entries = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    for entry in entries.splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", entry)
        yield Pin(Requirement(requirement), tuple(hashes))


def _versions(name: str) -> dict[str, str]:
    return {canonicalize_name(pin.requirement.name): pin.version for pin in _pins(name)}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_what_is_declared(name: str) -> None:
    """Each dependency of pyproject.toml is pinned to a version that it allows: else run `make lock`."""
    versions = _versions(name)
    for declared in map(Requirement, _DECLARED[name]):
        pinned = versions.get(canonicalize_name(declared.name))
        assert pinned is not None, f"{declared.name} is not in {name}: run make lock"
        assert declared.specifier.contains(pinned), f"{name} pins {declared.name} {pinned}: run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_hashed_and_names_no_place(name: str) -> None:
    """Each pin has its hashes, and no line says where to download from."""
    for pin in _pins(name):
        assert pin.hashes, pin.requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value.strip()) for value in pin.hashes)
        assert pin.requirement.url is None
    assert "//" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock"])
def test_developers_use_the_versions_that_users_get(name: str) -> None:
    """The dev lock holds every pin of the other locks, so tests run on what `make run` runs on."""
    developers = _versions("requirements-dev.lock")
    assert _versions(name).items() <= developers.items()
