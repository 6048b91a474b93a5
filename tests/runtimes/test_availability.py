"""Facts about which runtimes are told to work."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.runtimes.catalog import RuntimeCatalog, read_exit_codes
from dorkos.runtimes.driven import DrivenRuntime
from dorkos.runtimes.events import ResultStatus
from dorkos.setting_groups.runtimes import RuntimeSettings


def catalog(folder: Path) -> RuntimeCatalog:
    return RuntimeCatalog(RuntimeSettings(), folder)


def test_each_runtime_is_told(tmp_path: Path) -> None:
    """With everything installed each of ours works, and says by which version."""
    found = {each.name: each for each in catalog(tmp_path / "none").examine()}
    assert list(found) == ["command", "acp", "claude", "codex", "scripted"]
    assert all(each.usable for each in found.values())
    assert found["claude"].detail.startswith("claude-agent-sdk 0.")


@pytest.mark.parametrize(
    ("module", "name"), [("acp", "acp"), ("claude_agent_sdk", "claude"), ("openai_codex", "codex")]
)
def test_what_is_missing_is_told_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, name: str
) -> None:
    """The hint is the command that installs it."""
    real: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == module else real(asked))
    [lacking] = [each for each in catalog(tmp_path).examine() if not each.usable]
    assert lacking.name == name
    assert lacking.hint == f"Install it with `pip install 'dorkos[{name}]'`."


def test_programs_of_the_protocol_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those on PATH are named."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/x/{name}" if name == "opencode" else None)
    [acp] = [each for each in catalog(tmp_path).examine() if each.name == "acp"]
    assert "found here: opencode" in acp.detail


def test_exit_codes_are_read_from_the_setting() -> None:
    """Each names a code and what it means; anything else stops the start and says how to write it."""
    assert read_exit_codes(["75=blocked", "3=completed"]) == {
        75: ResultStatus.BLOCKED,
        3: ResultStatus.COMPLETED,
    }
    for wrong in ("75", "0=completed", "256=failed", "x=failed", "75=maybe", ""):
        with pytest.raises(DorkError) as refusal:
            read_exit_codes([wrong])
        assert refusal.value.code is ErrorCode.INVALID_SETTING


def test_a_file_is_a_runtime_of_its_own(tmp_path: Path) -> None:
    """It is found by the name of the file, shown, and never takes the place of one of ours."""
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "claude.py").write_text("")
    runtimes = catalog(tmp_path)
    assert runtimes.named("mine") == DrivenRuntime(str(tmp_path / "mine.py"))
    assert [each.name for each in runtimes.examine()][-1] == "mine"
    claude = runtimes.named("claude")
    assert isinstance(claude, DrivenRuntime)
    assert claude.module == "claude"
    with pytest.raises(DorkError) as refusal:
        runtimes.named("other")
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert "mine" in (refusal.value.hint or "")
