"""`dorkos relay watch` against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import call
from tests.server_process import ServerProcess


def _here(dorkos: Dorkos) -> str:
    return str(dorkos("status", "--json").json["eventCursor"])


def test_watching_goes_on_after_a_cursor_and_consumes_nothing(dorkos: Dorkos) -> None:
    """Each line holds the cursor at which the next call goes on; the messages still wait."""
    # A pattern for this test alone: what others have begun on the server may still send.
    dorkos("relay", "open", "relay.human.watched.one")
    cursor = _here(dorkos)
    for text in ("one", "two", "three"):
        dorkos("relay", "send", "relay.human.watched.one", text)
    words = ("relay", "watch", "relay.human.watched.*", "--json")
    first = dorkos(*words, "--after", cursor, "--limit", "2").lines
    second = dorkos(*words, "--after", first[-1]["cursor"], "--limit", "1").lines
    assert [message["payload"] for message in (*first, *second)] == ["one", "two", "three"]
    waiting = dorkos("relay", "inbox", "relay.human.watched.one", "--json").json["messages"]
    assert [message["status"] for message in waiting] == ["pending"] * 3


def test_only_what_the_pattern_stands_for_is_shown(dorkos: Dorkos) -> None:
    """As a sentence for a person: who, to whom, and how it begins."""
    cursor = _here(dorkos)
    for name in ("left", "right"):
        dorkos("relay", "open", f"relay.human.watch-{name}")
        dorkos("relay", "send", f"relay.human.watch-{name}", f"to the {name}")
    done = dorkos("relay", "watch", "relay.human.watch-right", "--after", cursor, "--limit", "1")
    assert "times in " in done.err
    assert done.out.rstrip().endswith("relay.human.operator -> relay.human.watch-right  to the right")
    assert dorkos("relay", "watch", "no pattern", "--json").json["code"] == "invalid_subject"


def test_a_live_message_is_visible_at_once_and_ctrl_c_ends_it(dorkos: Dorkos, server: ServerProcess) -> None:
    """Also in a pipe, and without a complaint."""
    dorkos("relay", "open", "relay.human.watch-live")
    words = ("relay.human.watch-live", "--after", _here(dorkos), "--json")
    watching = subprocess.Popen(
        [sys.executable, "-m", "dorkos", "relay", "watch", *words],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    dorkos("relay", "send", "relay.human.watch-live", "now")
    assert watching.stdout is not None
    message = json.loads(watching.stdout.readline())
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert (message["subject"], message["payload"]) == ("relay.human.watch-live", "now")
    assert (watching.returncode, out, err) == (130, "", "")


def test_a_reset_is_one_line_among_the_messages(scripted: ScriptedServer, home: Path) -> None:
    """It does not count as a message, and the greeting is not shown."""
    message = {"id": "M", "subject": "relay.human.a", "from": None, "createdAt": "", "payload": 1}
    frames = (
        'id: e:4\nevent: relay_connected\ndata: {"reset": true}\n\n'
        f"id: e:5\nevent: relay_message\ndata: {json.dumps(message)}\n\n"
    )
    scripted.stream(frames)
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "dork_x"}
    done = call("relay", "watch", "--json", "--limit", "1", environment=environment)
    assert done.lines == [{"cursor": "e:4", "reset": True}, {"cursor": "e:5", **message}]
    assert "may be missing" in done.err
