"""Writes what DorkOS consists of as CycloneDX JSON. Run it as `make sbom`.

It is made of the lock alone, with nothing of the time or the machine: the same lock gives the same file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dorkos import __version__
from scripts.pins import Pin, pins

_OURS = f"pkg:pypi/dorkos@{__version__}"


def bill() -> dict[str, Any]:
    """The document: DorkOS, and each package that it brings with its licence and the hashes of its files."""
    found = list(pins())
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": _OURS,
                "name": "dorkos",
                "version": __version__,
                "purl": _OURS,
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": [_component(pin) for pin in found],
        "dependencies": [{"ref": _OURS, "dependsOn": [pin.purl for pin in found]}],
    }


def _component(pin: Pin) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        # One a file: which of them is installed depends on the system.
        "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(set(pin.hashes))],
    }
    if pin.licence is not None:
        component["licenses"] = [{"expression": pin.licence}]
    return component


def main() -> int:
    """Write the file that is named, else to standard output."""
    text = json.dumps(bill(), indent=2) + "\n"
    if len(sys.argv) > 1:
        place = Path(sys.argv[1])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
