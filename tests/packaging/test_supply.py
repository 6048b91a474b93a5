"""What DorkOS brings with it: under which licences, in a list for tools, and the same wheel each time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.licences import is_allowed
from scripts.pins import Pin, pins
from scripts.sbom import bill

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("pin", [pin for pin in pins() if pin.is_here], ids=lambda pin: pin.name)
def test_each_package_says_a_licence_that_is_allowed(pin: Pin) -> None:
    """Whoever installs DorkOS must not take on more than to keep notices."""
    assert pin.licence is not None
    assert is_allowed(pin.licence), pin.licence


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("(MIT AND Zlib)", True),
        ("Apache-2.0 OR GPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_if_all_its_licences_are(licence: str, allowed: bool) -> None:
    """Also where there would be a choice: a person is to look at it."""
    assert is_allowed(licence) is allowed


def test_the_bill_of_materials_is_whole_and_valid() -> None:
    """CycloneDX 1.6, with every package of the lock and the hash of each of its files; the same each time."""
    made = bill()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    assert {each["purl"] for each in made["components"]} == {pin.purl for pin in pins()}
    assert len(made["components"]) > 40
    assert all(each["hashes"] for each in made["components"])
    assert made == bill()


def test_the_audit_looks_at_every_lock() -> None:
    """With their hashes, so that what is asked about is what is installed."""
    said = subprocess.run(
        ["make", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for lock in ROOT.glob("requirements*.lock"):
        assert f"--requirement {lock.name}" in said
    assert "--require-hashes" in said


@pytest.mark.xdist_group("wheel")
def test_the_same_source_gives_the_same_wheel(tmp_path: Path) -> None:
    """In another folder, at another time, by a user with other rights: byte for byte."""
    digests = []
    for number, (umask, stamp) in enumerate([(0o022, 1_600_000_000), (0o077, 1_700_000_000)]):
        source = tmp_path / f"source {number}"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(
            ROOT / "src",
            source / "src",
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=shutil.copy,
        )
        for path in source.rglob("*"):
            os.utime(path, (stamp, stamp))
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source],
            cwd=tmp_path,
            capture_output=True,
            umask=umask,
            timeout=300,
            check=True,
        )
        (wheel,) = (source / "dist").glob("*.whl")
        digests.append(hashlib.sha256(wheel.read_bytes()).hexdigest())

    assert digests[0] == digests[1]
