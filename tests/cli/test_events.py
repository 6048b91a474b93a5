"""`dorkos events` against a real server."""

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


def test_events_go_on_after_a_cursor(dorkos: Dorkos) -> None:
    """Each line holds the cursor at which the next call goes on, without gap or repetition."""
    cursor = _here(dorkos)
    for name in ("a", "b", "c"):
        dorkos("relay", "open", f"relay.human.events-{name}")
    words = ("events", "--after", cursor, "--kinds", "relay.endpoint.opened")
    first = dorkos(*words, "--follow", "--limit", "2", "--json").lines
    second = dorkos("events", "--after", first[-1]["cursor"], "--limit", "1", "--json").lines
    assert [event["data"]["subject"][-1] for event in (*first, *second)] == ["a", "b", "c"]
    assert {event["kind"] for event in first} == {"relay.endpoint.opened"}


def test_a_line_tells_when_what_and_of_which(dorkos: Dorkos) -> None:
    """Time, kind and id are there for eyes and for copying; the zone is named first."""
    cursor = _here(dorkos)
    dorkos("relay", "open", "relay.human.events-line")
    # Others that share the server may still be at work, so the kind is named.
    words = ("--topics", "relay", "--kinds", "relay.endpoint.opened", "--limit", "1")
    done = dorkos("events", "--after", cursor, *words)
    assert "times in " in done.err
    assert "  relay.endpoint.opened " in done.out
    assert done.out.rstrip().endswith("relay.human.events-line")


def test_live_events_end_with_ctrl_c(dorkos: Dorkos, server: ServerProcess) -> None:
    """A line is visible at once, also in a pipe, and the interrupt leaves no complaint."""
    words = ("--topics", "relay", "--kinds", "relay.endpoint.opened", "--json")
    watching = subprocess.Popen(
        [sys.executable, "-m", "dorkos", "events", "--after", _here(dorkos), *words],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    dorkos("relay", "open", "relay.human.events-live")
    assert watching.stdout is not None
    event = json.loads(watching.stdout.readline())
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert event["data"]["subject"] == "relay.human.events-live"
    assert (watching.returncode, out, err) == (130, "", "")


def test_a_bad_cursor_topic_or_kind_is_refused(dorkos: Dorkos) -> None:
    """Instead of a stream that stays empty."""
    assert dorkos("events", "--after", "nonsense", "--json").json["code"] == "invalid_cursor"
    assert dorkos("events", "--topics", "weather", "--json").json["code"] == "validation_failed"
    assert dorkos("events", "--kinds", "pulse.run.sneezed", "--json").json["code"] == "validation_failed"


def test_a_reset_is_one_line_among_the_events(scripted: ScriptedServer, home: Path) -> None:
    """It does not count as an event, and greetings are not shown."""
    event = {"position": 5, "kind": "pulse.run.started", "entityId": "R", "actor": None, "at": "", "data": {}}
    scripted.stream(
        'id: e:4\nevent: reset\ndata: {"cursor": "e:4"}\n\n',
        'id: e:4\nevent: hello\ndata: {"cursor": "e:4"}\n\n',
        f"id: e:5\nevent: pulse.run.started\ndata: {json.dumps(event)}\n\n",
    )
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    done = call("events", "--after", "old:1", "--limit", "1", "--json", environment=environment)
    assert done.lines == [{"cursor": "e:4", "kind": "reset"}, {"cursor": "e:5", **event}]
    assert "may be missing" in done.err
