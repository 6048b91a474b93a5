"""What only agents of the Agent Client Protocol do: files, commands, tools of ours, and ends of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dorkos.runtimes.events import Log
from dorkos.runtimes.protocol import RunSpec
from dorkos.runtimes.results import Completed, Failed, Unavailable
from dorkos.vocabulary import PermissionMode
from tests.runtimes.kits import ACP_AGENT, AcpKit, Taken, environment, take


async def asked(folder: Path, prompt: object, **changes: Any) -> Taken:
    changes.setdefault("permission_mode", PermissionMode.ACCEPT_EDITS)
    changes.setdefault("argv", ACP_AGENT)
    changes.setdefault("environment", environment(folder))
    return await take(AcpKit(), RunSpec(prompt=json.dumps(prompt), cwd=folder, **changes))


async def test_without_rights_an_agent_may_look_only(tmp_path: Path) -> None:
    """A file of the project is read; one elsewhere, a change and a command are refused, also unasked."""
    (tmp_path / "here.txt").write_text("inside")
    steps = [{"read": "here.txt"}, {"read": "/etc/hostname"}, {"write": "made.txt"}, {"run": ["true"]}]
    taken = await asked(tmp_path, steps, permission_mode=PermissionMode.DEFAULT)
    looked, elsewhere, written, run = taken.text.splitlines()
    assert looked == "inside"
    assert "not in the working directory" in elsewhere
    assert "do not cover changes" in written
    assert "do not cover commands" in run
    assert not (tmp_path / "made.txt").exists()


async def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would hold up the driver for ever, and a link may lead anywhere: both are refused at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    steps = [{"read": "pipe"}, {"write": "pipe"}, {"read": "link"}, {"write": "link"}]
    taken = await asked(tmp_path, steps)
    refused = taken.text.splitlines()
    assert len(refused) == 4
    assert [line.split(":", 1)[0] for line in refused] == ["refused"] * 4


_RAW = """
import json, os, signal, sys
def answer(result):
    asked = json.loads(sys.stdin.readline())
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
def tell(update):
    told = {"sessionId": "s-1", "update": update}
    print(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": told}), flush=True)
how = sys.argv[1]
answer({"protocolVersion": 99 if how == "version" else 1, "agentCapabilities": {}})
answer({"sessionId": "s-1"})
if how == "closes":
    os.close(1)
    signal.pause()
tell({"sessionUpdate": "of_tomorrow", "x": 1})
tell({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "done"}})
answer({"stopReason": "end_turn"})
sys.stdin.readline()
"""


async def raw(folder: Path, how: str) -> Taken:
    """An agent that was written without the SDK."""
    return await asked(folder, "go", argv=(sys.executable, "-c", _RAW, how))


@pytest.mark.parametrize(("how", "words"), [("version", "version 99"), ("closes", "closed its connection")])
async def test_an_agent_that_cannot_be_talked_to_has_failed(tmp_path: Path, how: str, words: str) -> None:
    """One of another version of the protocol, and one that hangs up and lives on; both say so."""
    taken = await raw(tmp_path, how)
    assert isinstance(taken.ending, Failed)
    assert words in taken.ending.message


async def test_what_is_not_known_yet_is_a_remark(tmp_path: Path) -> None:
    """News of a later version is a line beside the answer, and no traceback in it."""
    taken = await raw(tmp_path, "news")
    assert (taken.ending, taken.text) == (Completed(), "done")
    [remark] = [said for said in taken.said if isinstance(said, Log) and said.level == "error"]
    assert "of_tomorrow" in remark.text


async def test_with_all_rights_commands_run(tmp_path: Path) -> None:
    """In the working directory, and their output comes back."""
    run = {"run": [sys.executable, "-c", "print(open('here.txt').read())"]}
    (tmp_path / "here.txt").write_text("inside")
    done = await asked(tmp_path, run, permission_mode=PermissionMode.BYPASS_PERMISSIONS)
    assert done.text == "0: inside\n"


async def test_an_old_conversation_is_not_told_again(tmp_path: Path) -> None:
    """What an agent repeats while it loads a session is no output; a session that is gone is a failure."""
    session = (await asked(tmp_path, {"say": ["one"]})).report.session_id
    assert (await asked(tmp_path, {"say": ["two"]}, resume=session)).text == "two"
    lost = await asked(tmp_path, {"say": ["three"]}, resume="gone")
    assert isinstance(lost.ending, Failed)
    assert lost.ending.message.endswith("(session_lost)")


@pytest.mark.parametrize(
    ("options", "place"), [((), "http://127.0.0.1:1/mcp"), (("--no-http",), sys.executable)], ids=str
)
async def test_our_tools_are_offered_as_the_agent_can_use_them(
    tmp_path: Path, options: tuple[str, ...], place: str
) -> None:
    """Over HTTP where it can, else by the program that speaks for us; with no token there is neither."""
    given = environment(tmp_path, DORKOS_TOKEN="t", DORKOS_URL="http://127.0.0.1:1")
    taken = await asked(
        tmp_path,
        {"servers": 1},
        argv=(*ACP_AGENT, *options),
        environment=given,
        mcp_url="http://127.0.0.1:1/mcp",
    )
    assert json.loads(taken.text) == [["dorkos", place]]


async def test_an_agent_that_dies_has_failed(tmp_path: Path) -> None:
    """What it said is kept, and its exit code is told."""
    taken = await asked(tmp_path, {"die": 7})
    assert (taken.text, isinstance(taken.ending, Failed)) == ("dying", True)
    assert isinstance(taken.ending, Failed)
    assert "exit code 7" in taken.ending.message


async def test_a_program_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """Its name is told, with what to do."""
    taken = await asked(tmp_path, {"say": []}, argv=("no-such-agent-anywhere",))
    assert isinstance(taken.ending, Unavailable)
    assert "no-such-agent-anywhere" in taken.ending.message
    assert taken.ending.hint
