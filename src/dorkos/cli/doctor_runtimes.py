"""What `dorkos doctor` says of the runtimes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dorkos.db.finding import Finding, fine


def examine_runtimes(own: Path) -> Iterator[Finding]:
    """Each runtime, and what is missing for it. That one is not there is nothing to mend: few need all."""
    from dorkos.runtimes.catalog import RuntimeCatalog
    from dorkos.setting_groups.runtimes import RuntimeSettings

    for one in RuntimeCatalog(RuntimeSettings(), own).examine():
        told = one.detail if one.usable else f"cannot be used: {one.detail} {one.hint or ''}".rstrip()
        yield fine(one.name, told, usable=one.usable)
