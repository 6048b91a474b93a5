"""The strategies in the order they are asked. The first with an answer decides."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dorkos.mesh.model import Hints, Problem
from dorkos.mesh.strategies.claude_code import ClaudeCodeStrategy
from dorkos.mesh.strategies.codex import AgentsFileStrategy, CodexStrategy
from dorkos.mesh.strategies.cursor import CursorStrategy
from dorkos.mesh.strategies.gemini import GeminiStrategy
from dorkos.mesh.strategies.generic import ManifestStrategy
from dorkos.mesh.strategies.opencode import OpenCodeStrategy
from dorkos.mesh.strategies.protocol import Folder, Strategy

log = logging.getLogger("dorkos.mesh")

# A manifest says most, so it is asked first. The next three stand as the lineage had them. `AGENTS.md` is
# read by several products, so it counts only where none of them left a mark of its own.
STRATEGIES: tuple[Strategy, ...] = (
    ManifestStrategy(),
    ClaudeCodeStrategy(),
    CursorStrategy(),
    CodexStrategy(),
    GeminiStrategy(),
    OpenCodeStrategy(),
    AgentsFileStrategy(),
)


def first_answer(strategies: Sequence[Strategy], folder: Folder) -> tuple[Strategy, Hints | Problem] | None:
    """The first strategy that has something to say about the folder, with what it says."""
    for strategy in strategies:
        try:
            said = strategy.look(folder)
        except Exception:  # A strategy that fails on one folder must not end the walk; the next is asked.
            log.exception("strategy %s failed on %s", strategy.name, folder.path)
            continue
        if said is not None:
            return strategy, said
    return None
