"""All tables, for whoever needs the whole schema: migrations, the drift check, tests."""

from __future__ import annotations

from dorkos.db.schema import mesh, pulse, relay, system
from dorkos.db.schema.metadata import metadata

MODULES = (system, pulse, relay, mesh)

__all__ = ["MODULES", "metadata"]
