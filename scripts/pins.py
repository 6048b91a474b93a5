"""What the lock files pin, and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What comes with `pip install dorkos`; the others are for those who develop or measure it.
RUNTIME_LOCK = ROOT / "requirements.lock"

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")

# The names by which licences without an expression go, in the words of SPDX.
_IN_WORDS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
    "ISC License": "ISC",
}
# Said in the project's own files only.
_SAID_ELSEWHERE: Mapping[str, str] = {"pysqlite3": "Zlib"}


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock. `hashes` are the SHA-256 of the files that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its name for tools that compare packages of all kinds."""
        return f"pkg:pypi/{self.name}@{self.version}"

    @property
    def is_here(self) -> bool:
        """Whether it is installed; some are for other systems only."""
        try:
            return metadata.version(self.name) == self.version
        except metadata.PackageNotFoundError:
            return False

    @property
    def licence(self) -> str | None:
        """Its licence as SPDX writes it, by what the installed package says; None if it does not say."""
        if not self.is_here:
            return None
        said = metadata.metadata(self.name).json
        if "license_expression" in said:
            return str(said["license_expression"])
        lines = [line for line in said.get("classifier", ()) if line.startswith("License")]
        for name in [str(said.get("license", "")), *(line.rpartition(" :: ")[2] for line in lines)]:
            if name in _IN_WORDS or re.fullmatch(r"[A-Za-z]+(-[\w.]+)+|MIT", name):
                return _IN_WORDS.get(name, name)
        return _SAID_ELSEWHERE.get(self.name)


def pins(lock: Path = RUNTIME_LOCK) -> Iterator[Pin]:
    """The packages of a lock, in its order."""
    # A pin goes on over the lines that end with a backslash.
    for entry in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        found = _PIN.match(entry)
        if found is not None:
            yield Pin(found["name"], found["version"], tuple(_HASH.findall(entry)))
