"""`dorkos pulse` against a real server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import call
from tests.server_process import ServerProcess

# Adds a schedule that runs a Python program by hand; returns its id.
Add = Callable[[str, str], str]


@pytest.fixture
def add(dorkos: Dorkos, projects: Path) -> Add:
    """A schedule of this name whose program is this text."""

    def add_it(name: str, program: str) -> str:
        words = ("--manual", "--cwd", str(projects), "--json", "--", sys.executable, "-c", program)
        return str(dorkos("pulse", "add", name, *words).json["id"])

    return add_it


def _chunk(seq: int, text: str) -> dict[str, Any]:
    return {"seq": seq, "stream": "stdout", "at": None, "text": text}


def test_a_schedule_by_cron_says_when_it_is_due(dorkos: Dorkos, projects: Path) -> None:
    """As JSON the answer is REST's; as text it names id and zone."""
    words = (
        "--cron",
        "0 9 * * *",
        "--timezone",
        "Europe/Berlin",
        "--max-runtime",
        "10m",
        "--cwd",
        str(projects),
    )
    added = dorkos("pulse", "add", "by cron", *words, "--json", "--", "true", "--flag").json
    assert (added["cron"], added["timezone"], added["maxRuntime"]) == ("0 9 * * *", "Europe/Berlin", 600_000)
    assert (added["command"], added["cwd"]) == (["true", "--flag"], str(projects))
    assert len(added["nextRuns"]) == 5

    text = dorkos("pulse", "add", "by cron again", *words, "--", "true").out
    assert "Europe/Berlin" in text
    assert "next (" in text


def test_a_schedule_for_an_agent_at_one_instant(dorkos: Dorkos, projects: Path) -> None:
    """The agent is meant by its name, the prompt comes from standard input."""
    manifest = projects / "once" / ".dork" / "agent.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"name": "once-agent", "runtime": "command", "entrypoint": ["cat"]}', "utf-8")
    agent = dorkos("mesh", "register", str(projects / "once"), "--json").json["id"]
    words = (
        "--at",
        "2099-12-24T18:00",
        "--timezone",
        "Europe/Berlin",
        "--agent",
        "once-agent",
        "--prompt",
        "-",
    )
    added = dorkos("pulse", "add", "once", *words, "--json", stdin="Frohe Grüße".encode()).json
    assert (added["agentId"], added["prompt"]) == (agent, "Frohe Grüße")
    assert added["cron"] == "@at 2099-12-24T17:00:00.000Z"


def test_a_schedule_that_asks_a_subject(dorkos: Dorkos) -> None:
    """Its reply completes the run; naming a program instead replaces the subject."""
    subject = "relay.human.asked"
    dorkos("relay", "open", subject)
    added = dorkos("pulse", "add", "ask", "--manual", "--subject", subject, "--prompt", "Now?", "--json").json
    assert (added["targetSubject"], added["command"], added["agentId"]) == (subject, None, None)
    run_id = dorkos("pulse", "run", "ask", "--json").json["runId"]
    (delivery,) = dorkos("relay", "claim", subject, "--wait", "30s", "--json").json["deliveries"]
    assert dorkos("pulse", "show", run_id).out.count(delivery["messageId"]) == 1
    dorkos("relay", "reply", delivery["messageId"], "Soon.")
    assert dorkos("pulse", "logs", run_id, "--follow").out == "Soon."
    assert dorkos("pulse", "show", run_id, "--json").json["state"] == "completed"
    edited = dorkos("pulse", "edit", "ask", "--json", "--", "true").json
    assert (edited["targetSubject"], edited["command"]) == (None, ["true"])


def test_a_relative_directory_is_meant_from_here(
    dorkos: Dorkos, projects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own working directory is another; without --cwd a program runs in this one."""
    (projects / "below").mkdir()
    monkeypatch.chdir(projects)
    given = dorkos("pulse", "add", "relative", "--manual", "--cwd", "below", "--json", "--", "true").json
    left_out = dorkos("pulse", "add", "here", "--manual", "--json", "--", "true").json
    assert (given["cwd"], left_out["cwd"]) == (str(projects / "below"), str(projects))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--manual",), "usage"),
        (("--", "true"), "usage"),
        (("--manual", "--cron", "* * * * *", "--", "true"), "usage"),
        (("--manual", "--agent", "a", "--prompt", "p", "--", "true"), "usage"),
        (("--manual", "--agent", "a"), "usage"),
        (("--manual", "--max-runtime", "10", "--", "true"), "usage"),
        (("--at", "soon", "--", "true"), "invalid_instant"),
        (("--at", "2020-01-01T00:00Z", "--", "true"), "invalid_instant"),
        (("--cron", "61 * * * *", "--", "true"), "invalid_cron"),
        (("--cron", "0 0 30 2 *", "--", "true"), "invalid_cron"),
        (("--cron", "* * * * *", "--timezone", "Mars/Olympus", "--", "true"), "invalid_timezone"),
        (("--manual", "--agent", "nobody", "--prompt", "p"), "agent_not_found"),
        (("--manual", "--cwd", "/", "--", "true"), "outside_boundary"),
    ],
    ids=str,
)
def test_bad_schedules_are_refused_and_none_is_stored(
    dorkos: Dorkos, projects: Path, words: tuple[str, ...], code: str
) -> None:
    """Whether the command line or the server notices, the shape is the same."""
    where = () if "--cwd" in words or "--agent" in words else ("--cwd", str(projects))
    done = dorkos("--json", "pulse", "add", "never stored", *where, *words)
    assert done.json["code"] == code
    assert done.code in (2, 3, 5)
    assert "hint" in done.json
    assert not [row for row in dorkos("pulse", "list", "--json").json if row["name"] == "never stored"]


def test_list_is_the_rest_answer_and_a_table_of_it(dorkos: Dorkos, server: ServerProcess, add: Add) -> None:
    """Ids stand whole in the table."""
    schedule = add("listed", "pass")
    with server.client() as client:
        answer = client.get("/api/pulse/schedules").json()
    assert dorkos("pulse", "list", "--json").json == answer
    (line,) = [line for line in dorkos("pulse", "list").out.splitlines() if line.startswith(schedule)]
    assert line.split()[1:] == ["listed", "by", "hand", "active"]


def test_a_followed_run_shows_its_output_and_how_it_ended(dorkos: Dorkos, add: Add) -> None:
    """Standard output to standard output, standard error to standard error; 0 for a run that completed."""
    add("prints", "import sys; print('out ü'); print('err', file=sys.stderr)")
    done = dorkos("pulse", "run", "prints", "--follow")
    assert (done.code, done.out) == (0, "out ü\n")
    assert "err\n" in done.err
    assert "Completed in" in done.err


def test_a_followed_run_that_fails_ends_with_1(dorkos: Dorkos, add: Add) -> None:
    """As JSON each line is a chunk, and the last one is the run."""
    add("fails", "print('so far'); raise SystemExit(3)")
    done = dorkos("pulse", "run", "fails", "--follow", "--json")
    *chunks, run = done.lines
    assert done.code == 1
    assert "".join(chunk["text"] for chunk in chunks) == "so far\n"
    assert (run["state"], run["reason"], run["exitCode"]) == ("failed", "exit_code", 3)


def test_a_run_leaves_history_and_logs(dorkos: Dorkos, server: ServerProcess, add: Add) -> None:
    """`runs`, `show` and `logs` tell of it; as JSON they are REST's answers."""
    schedule = add("history", "print('one'); print('two')")
    dorkos("pulse", "run", "history", "--follow")
    (row,) = dorkos("pulse", "runs", "--schedule", "history", "--json").json
    with server.client() as client:
        assert [row] == client.get("/api/pulse/runs", params={"scheduleId": schedule}).json()
        assert (
            dorkos("pulse", "show", row["id"], "--json").json
            == client.get(f"/api/pulse/runs/{row['id']}").json()
        )

    heading, line = dorkos("pulse", "runs", "--schedule", schedule).out.splitlines()
    assert heading.startswith("ID ")
    assert line.split()[:3] == [row["id"], "history", "completed"]
    shown = dorkos("pulse", "show", row["id"]).out
    assert "completed" in shown
    assert "one\ntwo\n" in shown
    assert dorkos("pulse", "logs", row["id"]).out == "one\ntwo\n"
    assert dorkos("pulse", "logs", row["id"], "--follow").out == "one\ntwo\n"
    chunks = dorkos("pulse", "logs", row["id"], "--json").json["chunks"]
    assert "".join(chunk["text"] for chunk in chunks) == "one\ntwo\n"


def test_logs_of_many_pages_are_whole(scripted: ScriptedServer, home: Path) -> None:
    """Page after page, until the last or until there is no more yet."""
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    first = {"chunks": [_chunk(1, "a"), _chunk(2, "b")], "nextSeq": 2, "final": False}
    second = {"chunks": [_chunk(3, "c")], "nextSeq": 3, "final": False}
    for page in (
        first,
        second,
        {"chunks": [], "nextSeq": 3, "final": False},
        first,
        {**second, "final": True},
    ):
        scripted.answer(page)
    for _ in ("no more yet", "the last"):
        assert call("pulse", "logs", "R", environment=environment).out == "abc"
    asked = [request.split()[1] for request in scripted.requests]
    assert [path.partition("after=")[2].partition("&")[0] for path in asked] == ["0", "2", "3", "0", "2"]


def test_what_dorkos_says_stands_apart(scripted: ScriptedServer, home: Path) -> None:
    """A remark about the output is marked, on standard error."""
    chunks = [_chunk(1, "a\n"), {**_chunk(2, "The rest was dropped."), "stream": "system"}]
    scripted.answer({"chunks": chunks, "nextSeq": 2, "final": True})
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    done = call("pulse", "logs", "R", environment=environment)
    assert (done.out, done.err) == ("a\n", "[dorkos] The rest was dropped.\n")


def test_runs_are_filtered_by_state(dorkos: Dorkos, add: Add) -> None:
    """An unknown state is refused by name."""
    add("filtered", "raise SystemExit(1)")
    dorkos("pulse", "run", "filtered", "--follow")
    assert len(dorkos("pulse", "runs", "--schedule", "filtered", "--state", "failed", "--json").json) == 1
    assert dorkos("pulse", "runs", "--schedule", "filtered", "--state", "completed", "--json").json == []
    assert dorkos("pulse", "runs", "--state", "nonsense", "--json").json["code"] == "validation_failed"


def test_runs_are_read_page_by_page(dorkos: Dorkos, add: Add) -> None:
    """Each page names the cursor of the next, also where the answer is JSON; no run is left out."""
    add("paged", "pass")
    made = [dorkos("pulse", "run", "paged", "--json").json["runId"] for _ in range(5)]
    seen: list[str] = []
    cursor: tuple[str, ...] = ()
    for size in (2, 2, 1):
        page = dorkos("pulse", "runs", "--schedule", "paged", "--limit", "2", *cursor, "--json")
        assert len(page.json) == size
        seen += [row["id"] for row in page.json]
        cursor = ("--cursor", page.err.split()[-1]) if page.err else ()
    assert seen == made[::-1]
    assert cursor == ()
    assert dorkos("pulse", "runs", "--cursor", "nonsense", "--json").json["code"] == "invalid_cursor"


def test_runs_of_a_span_of_time(dorkos: Dorkos, add: Add) -> None:
    """From --since on and before --until, by when they were made."""
    add("spanned", "pass")
    dorkos("pulse", "run", "spanned", "--follow")
    rows = ("pulse", "runs", "--schedule", "spanned", "--json")
    (row,) = dorkos(*rows, "--since", "2020-01-01T00:00Z").json
    assert dorkos(*rows, "--since", row["createdAt"]).json == [row]
    assert dorkos(*rows, "--until", row["createdAt"]).json == []
    assert dorkos(*rows, "--since", "2999-01-01T00:00Z").json == []
    assert dorkos(*rows, "--since", "yesterday-ish").json["code"] == "invalid_instant"
    assert dorkos(*rows, "--since", "2026-02-01T00:00", "--until", "2026-01-01T00:00").json["code"] == (
        "invalid_instant"
    )


def test_a_run_is_cancelled(dorkos: Dorkos, add: Add) -> None:
    """The one that follows it sees it end; a second cancel is too late."""
    add("waits", "import signal; print('up', flush=True); signal.pause()")
    run = dorkos("pulse", "run", "waits", "--json").json["runId"]
    assert dorkos("pulse", "cancel", run).code == 0
    assert dorkos("pulse", "logs", run, "--follow").code == 0
    assert dorkos("pulse", "show", run, "--json").json["state"] == "cancelled"
    done = dorkos("pulse", "cancel", run, "--json")
    assert (done.code, done.json["code"]) == (4, "run_not_active")


def test_ctrl_c_leaves_the_run_at_work(dorkos: Dorkos, server: ServerProcess, add: Add) -> None:
    """It ends the following, with the code of an interrupt, and says how to end the run."""
    add("goes on", "import signal; print('up', flush=True); signal.pause()")
    words = [sys.executable, "-m", "dorkos", "pulse", "run", "goes on", "--follow"]
    following = subprocess.Popen(
        words, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "up\n"
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=30)
    (run,) = dorkos("pulse", "runs", "--schedule", "goes on", "--json").json
    assert (following.returncode, out, run["state"]) == (130, "", "running")
    assert f"dorkos pulse cancel {run['id']}" in err
    assert "Traceback" not in err
    dorkos("pulse", "cancel", run["id"])


def test_a_schedule_is_paused_resumed_and_deleted(dorkos: Dorkos, projects: Path) -> None:
    """Each change is answered with what it means."""
    words = ("--cron", "0 9 * * *", "--cwd", str(projects), "--", "true")
    dorkos("pulse", "add", "on and off", *words)

    assert dorkos("pulse", "pause", "on and off", "--json").json["status"] == "paused"
    assert dorkos("pulse", "resume", "on and off").out.startswith("Resumed on and off: next run ")
    assert dorkos("pulse", "delete", "on and off").code == 0
    done = dorkos("pulse", "delete", "on and off", "--json")
    assert (done.code, done.json["code"]) == (3, "schedule_not_found")


def test_an_ambiguous_name_is_refused_with_the_ids(dorkos: Dorkos, add: Add) -> None:
    """An id still says which one is meant."""
    ids = {add("twin", "pass"), add("twin", "pass")}
    done = dorkos("pulse", "run", "twin", "--json")
    assert done.code == 4
    assert set(done.json["details"]["ids"]) == ids
    assert all(one in done.json["error"] for one in ids)
    assert dorkos("pulse", "delete", ids.pop()).code == 0


@pytest.mark.parametrize("verb", ["show", "logs", "cancel"])
@pytest.mark.parametrize("run", ["01M85CX6A97BDANPNW2TCFCGDT", "no/such run", "../schedules", "%2e"])
def test_an_unknown_run_is_not_found(dorkos: Dorkos, verb: str, run: str) -> None:
    """Whatever letters it is made of."""
    done = dorkos("pulse", verb, run, "--json")
    assert done.code in (2, 3)
    assert done.json["code"] in ("run_not_found", "not_found", "validation_failed", "method_not_allowed")


def test_an_empty_id_is_refused_before_it_is_sent(dorkos: Dorkos) -> None:
    """It would ask for the list instead."""
    done: Any = dorkos("pulse", "show", "", "--json")
    assert (done.code, done.json["code"]) == (2, "usage")


def test_a_schedule_that_needs_attention_says_why(scripted: ScriptedServer, home: Path) -> None:
    """In the table by its state, and below it with the reason."""
    row = {
        "id": "01M85CX6A97BDANPNW2TCFCGDT",
        "name": "noon",
        "cron": "every day at noon",
        "enabled": True,
        "status": "paused",
        "state": "needs_attention",
        "statusReason": "'every day at noon' is not a cron expression.",
        "nextRun": None,
    }
    scripted.answer([row])
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    done = call("pulse", "list", environment=environment)

    assert done.code == 0
    assert "needs_attention" in done.out
    assert "noon needs attention, so it does not fire: 'every day at noon' is not" in done.out


def test_a_schedule_without_an_outcome_in_time_says_so(scripted: ScriptedServer, home: Path) -> None:
    """Below the table, with the instant that it is about."""
    row = {
        "id": "01M85CX6A97BDANPNW2TCFCGDT",
        "name": "noon",
        "cron": "0 12 * * *",
        "enabled": True,
        "status": "active",
        "state": "active",
        "statusReason": None,
        "nextRun": None,
        "alarm": "2026-03-02T12:00:00.000Z",
    }
    scripted.answer([row])
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    done = call("pulse", "list", environment=environment)
    assert done.code == 0
    assert "noon has no outcome in time of" in done.out
