"""What only Claude does: its caps, and a conversation that is gone. The CLI is real, its model a script."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dorkos.runtimes.driven import DrivenRuntime
from dorkos.runtimes.protocol import RunSpec
from dorkos.runtimes.results import Completed, Failed
from tests import model_endpoint as model
from tests.runtimes.kits import ClaudeKit, environment, take

_LOOK = model.Use("Glob", {"pattern": "*.none"})


@pytest.mark.parametrize(
    ("caps", "kind", "calls"),
    [({"max_turns": 2}, "max_turns", 2), ({"max_cost_microusd": 300}, "max_cost", 2)],
    ids=["turns", "cost"],
)
async def test_a_cap_ends_the_turn(tmp_path: Path, caps: dict[str, Any], kind: str, calls: int) -> None:
    """An agent that would go on for ever is ended by either, with the cap named, and what it cost is told."""
    with ExitStack() as opened:
        endpoint = opened.enter_context(model.serve(*[_LOOK] * 9))
        kit = ClaudeKit(opened, runtime=DrivenRuntime("claude", **caps))
        given = environment(tmp_path, **endpoint.environment)
        taken = await take(kit, RunSpec((), "Look.", tmp_path, given))
        assert isinstance(taken.ending, Failed)
        assert taken.ending.message.endswith(f"({kind})")
        assert len(endpoint.asked) == calls
    assert taken.report.usage is not None
    assert (taken.report.usage.cost_microusd or 0) > 300


async def test_a_conversation_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    """The model is not even asked; a model that cannot be reached is no success either."""
    with ExitStack() as opened:
        endpoint = opened.enter_context(model.serve(model.Say("Hello."), model.Say("Anew.")))
        kit = ClaudeKit(opened)
        given = environment(tmp_path, **endpoint.environment)
        first = await take(kit, RunSpec((), "Hello?", tmp_path, given))
        assert first.ending == Completed()
        shutil.rmtree(Path(given["HOME"]) / ".claude" / "projects")
        session = first.report.session_id
        lost = await take(kit, RunSpec((), "Go on.", tmp_path, given, resume=session))
        assert isinstance(lost.ending, Failed)
        assert lost.ending.message.endswith("(session_lost)")
        assert len(endpoint.asked) == 1
        given = {**given, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
        away = await take(kit, RunSpec((), "Hello?", tmp_path, given))
        assert isinstance(away.ending, Failed)
        assert away.ending.message.endswith("(api_error)")
