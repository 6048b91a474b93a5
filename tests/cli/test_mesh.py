"""`dorkos mesh` against a real server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dorkos.cli import progress_line
from dorkos.mesh.manifest_schema import manifest_schema
from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess


@pytest.fixture
def project(projects: Path, request: pytest.FixtureRequest) -> Path:
    """A project with a manifest, named after the test."""
    path = projects / "mesh" / str(request.node.name)[:40]
    (path / ".dork").mkdir(parents=True)
    manifest = {
        "name": path.name,
        "description": "Says what it hears",
        "runtime": "command",
        "entrypoint": ["cat"],
    }
    (path / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def test_discovery_shows_what_could_be_registered(dorkos: Dorkos, project: Path) -> None:
    """Relative roots are meant from here; registered ones are no longer shown."""
    found = dorkos("mesh", "discover", str(project.parent), "--depth", "2")
    (line,) = [line for line in found.out.splitlines() if line.startswith(project.name)]
    assert line.split()[1] == "command"
    assert line.endswith(str(project))
    assert "candidate" in found.out.splitlines()[-1]
    dorkos("mesh", "register", str(project))
    assert str(project) not in dorkos("mesh", "discover", str(project.parent)).out


def test_an_empty_search_says_how_much_was_looked_at(dorkos: Dorkos, projects: Path) -> None:
    """And problems stand beside the answer."""
    folder = projects / "mesh empty"
    (folder / "broken" / ".dork").mkdir(parents=True)
    (folder / "broken" / ".dork" / "agent.json").write_text("{", encoding="utf-8")
    done = dorkos("mesh", "discover", str(folder))
    assert done.out == "Nothing new in 2 directories. Registered and denied ones are left out.\n"
    assert done.err.startswith(f"{folder}/broken/.dork/agent.json: is not JSON")


CANDIDATE = {
    "path": "/srv/scout",
    "hints": {"suggestedName": "Scout\x1b[31m", "detectedRuntime": "codex"},
    "duplicateOf": None,
}
PROGRESS = {"directories": 1200, "waiting": 30, "candidates": 1, "problems": 0}
END = {**PROGRESS, "truncated": False, "truncatedBy": None}


def frame(event: str, data: object) -> str:
    """A frame of a stream."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


def discover(scripted: ScriptedServer, home: Path) -> Done:
    """The command against a server that plays back what a test wrote."""
    words = ("mesh", "discover", "/srv", "--url", scripted.url, "--token", "t", "--home", str(home))
    return call(*words, environment={})


def test_what_is_found_is_shown_with_what_is_odd_about_it(scripted: ScriptedServer, home: Path) -> None:
    """A copy, an early end; nothing in a name acts on the terminal."""
    copy = {**CANDIDATE, "duplicateOf": "01JNA0000000000000000000AA"}
    end = {**END, "truncated": True, "truncatedBy": "time"}
    scripted.stream(frame("candidate", CANDIDATE), frame("candidate", copy), frame("end", end))
    done = discover(scripted, home)
    assert done.code == 0
    line = f"{'Scout␛[31m':<24}  codex        /srv/scout"
    assert done.out.splitlines() == [
        line,
        line,
        "",
        "1 candidate in 1200 directories. Register one: dorkos mesh register PATH",
    ]
    assert done.err.splitlines() == [
        "/srv/scout looks like a copy of agent 01JNA0000000000000000000AA.",
        "The search ended early, by time. Name a smaller root, or use --depth.",
    ]
    request = scripted.requests[0]
    assert request.startswith("POST /api/mesh/discover/stream ")
    assert json.loads(request.partition("\r\n\r\n")[2]) == {"roots": ["/srv"]}


def test_a_terminal_shows_how_far_it_is(
    scripted: ScriptedServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a line that makes way for what is found, and is gone at the end."""
    monkeypatch.setattr(progress_line, "sys", SimpleNamespace(stderr=(terminal := Terminal())))
    scripted.stream(
        frame("progress", PROGRESS), frame("candidate", CANDIDATE), frame("progress", END), frame("end", END)
    )
    assert discover(scripted, home).code == 0
    clear = "\r\x1b[2K"
    told = "1200 directories, 30 to go, 1 found"
    assert terminal.getvalue() == f"{clear}{told}{clear}{clear}{told}{clear}"


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_search_that_breaks_off_is_no_answer(scripted: ScriptedServer, home: Path) -> None:
    """Nor is one that was refused on the way: both have the exit code of what happened."""
    scripted.stream(frame("candidate", CANDIDATE))
    broken = discover(scripted, home)
    assert (broken.code, "broke off" in broken.err) == (6, True)

    refusal = {"error": "2 discoveries are at work already.", "code": "not_ready", "hint": "Wait."}
    scripted.stream(frame("refused", refusal))
    refused = discover(scripted, home)
    assert refused.err == "error: 2 discoveries are at work already. (not_ready)\nhint: Wait.\n"

    scripted.stream(frame("refused", {"error": "New.", "code": "of_tomorrow"}))
    assert discover(scripted, home).err.startswith("error: New. (internal_error)")


def test_the_schema_needs_no_server(home: Path) -> None:
    """It is the one that is published, with --json or without."""
    for words in (("mesh", "schema"), ("mesh", "schema", "--json")):
        done = call(*words, environment={"DORK_HOME": str(home)})
        assert (done.code, done.json) == (0, manifest_schema())


def test_relative_paths_are_meant_from_here(
    dorkos: Dorkos, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.` and a bare name reach the server as absolute paths."""
    monkeypatch.chdir(project.parent)
    (candidate,) = [
        row
        for row in dorkos("mesh", "discover", ".", "--json").json["candidates"]
        if row["path"] == str(project)
    ]
    assert candidate["hints"]["suggestedName"] == project.name
    assert dorkos("mesh", "register", project.name, "--json").json["projectPath"] == str(project)


def test_a_registered_agent_has_id_mailbox_and_path(dorkos: Dorkos, project: Path) -> None:
    """All of them are shown whole, and what was given by hand wins over the manifest."""
    words = (
        "mesh",
        "register",
        str(project),
        "--name",
        "renamed",
        "--runtime",
        "other",
        "--namespace",
        "Team A",
    )
    done = dorkos(*words)
    facts = dict(line.split(None, 1) for line in done.out.splitlines()[1:])
    assert done.out.startswith("Registered renamed.")
    assert facts["runtime"] == "other"
    assert facts["mailbox"] == f"relay.agent.team-a.{facts['id']}"
    assert facts["path"] == str(project)


def test_list_is_the_rest_answer_and_a_table_of_it(
    dorkos: Dorkos, server: ServerProcess, project: Path
) -> None:
    """Pages go on at the cursor."""
    agent = dorkos("mesh", "register", str(project), "--json").json
    with server.client() as client:
        assert dorkos("mesh", "list", "--json").json == client.get("/api/mesh/agents?limit=500").json()
    assert agent["id"] in dorkos("mesh", "list").out
    first = dorkos("mesh", "list", "--limit", "1", "--json").json
    assert [row["id"] for row in first["agents"]] == [agent["id"]]


def test_an_agent_is_removed_by_name_and_its_files_stay(dorkos: Dorkos, project: Path) -> None:
    """A second removal finds none."""
    dorkos("mesh", "register", str(project))
    assert dorkos("mesh", "unregister", project.name).out == f"Removed {project.name}.\n"
    assert (project / ".dork" / "agent.json").exists()
    done = dorkos("mesh", "unregister", project.name, "--json")
    assert (done.code, done.json["code"]) == (3, "agent_not_found")


def test_an_ambiguous_name_is_refused_with_the_ids(dorkos: Dorkos, project: Path) -> None:
    """Two agents may be called the same; a command must not pick one."""
    ids = []
    for twin in ("one", "two"):
        (project / twin).mkdir()
        words = (
            "mesh",
            "register",
            str(project / twin),
            "--name",
            "mesh-twin",
            "--runtime",
            "other",
            "--json",
        )
        ids.append(dorkos(*words).json["id"])
    done = dorkos("mesh", "unregister", "mesh-twin", "--json")
    assert done.code == 4
    assert sorted(done.json["details"]["ids"]) == sorted(ids)
    assert dorkos("mesh", "unregister", ids[0]).code == 0


def test_a_denied_path_is_listed_respected_and_allowed_again(dorkos: Dorkos, project: Path) -> None:
    """Spaces and letters beyond ASCII in the path make no difference."""
    assert dorkos("mesh", "deny", str(project), "--reason", "not now").code == 0
    (line,) = [line for line in dorkos("mesh", "denied").out.splitlines() if str(project) in line]
    assert line.endswith("not now")
    refused = dorkos("mesh", "register", str(project), "--json")
    assert (refused.code, refused.json["code"]) == (5, "path_denied")

    assert dorkos("mesh", "allow", str(project)).out == f"Allowed {project}.\n"
    assert dorkos("mesh", "register", str(project)).code == 0
    done = dorkos("mesh", "allow", str(project), "--json")
    assert (done.code, done.json["code"]) == (3, "denial_not_found")


@pytest.mark.parametrize("verb", ["register", "deny", "discover"])
def test_a_path_outside_the_boundary_is_refused(dorkos: Dorkos, verb: str) -> None:
    """Exit code 5, and nothing is read there."""
    done = dorkos("mesh", verb, "/", "--json")
    assert (done.code, done.json["code"]) == (5, "outside_boundary")


@pytest.mark.parametrize("verb", ["register", "deny", "allow", "discover"])
def test_an_empty_path_is_refused(dorkos: Dorkos, verb: str) -> None:
    """It would mean this directory, which nobody who left a variable unset meant."""
    done = dorkos("mesh", verb, "", "--json")
    assert (done.code, done.json["code"]) == (2, "usage")
