"""Every path that a caller can name is confined: on REST and by tools, whichever operation takes it.

What takes a path is found from the input models, so that nobody can forget to name a new one here.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel

from dorkos.operation import McpTool, Operation, Wire
from dorkos.server.operations import OPERATIONS
from dorkos.server.rest import path_names, takes_query
from tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("boundary")

_PATH_WORDS = re.compile(r"(paths?|cwd|dir|directory|root|roots|folder|file|files|home)$", re.IGNORECASE)
# What else a request has to say before its path is looked at.
_BESIDE: dict[str, dict[str, Any]] = {
    "pulse.schedules.create": {"name": "a", "prompt": "b", "cron": "@daily", "command": ["true"]},
    "pulse.schedules.update": {"id": "{schedule}"},
    "pulse.runtimes.test": {"name": "command", "command": ["true"]},
    "mesh.register": {"path": "{inside}", "overrides": {"name": "x", "runtime": "other"}},
    "mesh.move": {"id": "{agent}"},
    "workspace.session": {"id": "0b9a3c1e-7d52-4f0e-9a57-2f1c3d4e5f60"},
    "workspace.messages": {"id": "0b9a3c1e-7d52-4f0e-9a57-2f1c3d4e5f60"},
}
# Who asks for many folders at once is told of each, as by DorkOS for Node: outside, nobody is there.
_TOLD_OF_EACH = {"mesh.resolve": "nobody"}


@dataclass(frozen=True)
class Argument:
    """A path that an operation takes, by REST or by its tool."""

    operation: Operation[Any, Any, Any]
    key: str
    several: bool
    tool: McpTool | None = None

    def __str__(self) -> str:
        return f"{self.operation.name if self.tool is None else self.tool.name}.{self.key}"

    @property
    def code(self) -> str:
        """What a path that leads out is refused with."""
        return _TOLD_OF_EACH.get(self.operation.name, "outside_boundary")

    def given(self, path: str, kept: dict[str, str]) -> dict[str, Any]:
        """The arguments of a request with this path."""
        beside = json.loads(json.dumps(_BESIDE.get(self.operation.name, {})))
        known = set(_fields(self._model()))
        filled = {
            key: kept.get(value.strip("{}"), value) if isinstance(value, str) else value
            for key, value in beside.items()
            if key in known
        }
        return {**filled, self.key: [path] if self.several else path}

    def _model(self) -> type[BaseModel]:
        return self.operation.input if self.tool is None or self.tool.input is None else self.tool.input


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _inner(part)


def _paths_of(model: type[BaseModel], depth: int = 0) -> Iterator[tuple[str, bool]]:
    for key, annotation in _fields(model).items():
        if _PATH_WORDS.search(key):
            assert depth == 0, f"{model.__name__}.{key}: a path inside of another object has no test here yet"
            yield key, "list[" in str(annotation)
        for inner in _inner(annotation):
            yield from _paths_of(inner, depth + 1)


def _arguments() -> Iterator[Argument]:
    for operation in OPERATIONS:
        for key, several in _paths_of(operation.input):
            yield Argument(operation, key, several)
        if isinstance(operation.mcp, McpTool):
            for key, several in _paths_of(operation.mcp.input or operation.input):
                yield Argument(operation, key, several, operation.mcp)


ARGUMENTS = tuple(_arguments())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One whose boundary has a way out, and whose data directory lies inside it."""
    root = tmp_path_factory.mktemp("boundary")
    for folder in ("in/ünï/agent", "in/home", "outside/secret"):
        (root / folder).mkdir(parents=True)
    (root / "in" / "out").symlink_to(root / "outside")
    with ServerProcess(root / "in" / "home", boundary=root / "in") as server:
        yield server


@pytest.fixture(scope="module")
def root(server: ServerProcess) -> Path:
    """The boundary."""
    return server.home.parent


@pytest.fixture(scope="module")
def kept(server: ServerProcess, root: Path) -> dict[str, str]:
    """A schedule and an agent to speak of, and a folder that may be used."""
    inside = root / "ünï"
    body = {"name": "a", "prompt": "b", "cron": "@manual", "command": ["true"]}
    agent = {"path": str(inside / "agent"), "overrides": {"name": "x", "runtime": "other"}}
    with server.client() as client:
        return {
            "schedule": client.post("/api/pulse/schedules", json=body).json()["id"],
            "agent": client.post("/api/mesh/agents", json=agent).json()["id"],
            "inside": str(inside),
        }


def _ways_out(root: Path) -> list[str]:
    return [
        "/etc",
        f"{root}/../outside",
        f"{root}/ünï/../../outside/secret",
        f"{root}/out",
        f"{root}/out/secret",
        f"{root}/out/new/folder",
        f"{root}x",
        f"{root}/home",
        f"{root}/ünï/../home/backups",
        "ünï",
        "../outside",
        "~nobody-of-that-name/x",
    ]


def _request(client: httpx.Client, argument: Argument, given: dict[str, Any]) -> tuple[int, str]:
    operation = argument.operation
    address = operation.path
    for name in path_names(operation.path):
        address = address.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=""))
    query = takes_query(operation)
    answer = client.request(
        operation.method, address, params=given if query else None, json=None if query else given
    )
    body = answer.json()
    agents = body.get("agents") if isinstance(body, dict) else None
    if isinstance(agents, dict) and all(agent is None for agent in agents.values()):
        return answer.status_code, "nobody"
    return answer.status_code, body.get("code", "") if isinstance(body, dict) else ""


def _state(client: httpx.Client, root: Path) -> tuple[list[Any], list[str]]:
    """Everything that has a path, and every file that there is outside of the data directory, into which
    nobody looks: a backup comes and goes there."""
    files: list[str] = []
    for place, folders, names in os.walk(root.parent):
        files += [str(Path(place) / name) for name in (*folders, *names)]
        if Path(place) == root:
            folders.remove("home")
    agents = client.get("/api/mesh/agents").json()["agents"]
    named = [(agent["id"], agent["name"], agent["projectPath"], agent["scanRoot"]) for agent in agents]
    rows = [
        client.get(f"/api/{address}").json() for address in ("pulse/schedules", "mesh/denied", "pulse/runs")
    ]
    return [named, *rows], sorted(files)


def test_the_paths_are_found() -> None:
    """Those that there are today; the rule finds more when there are more."""
    named = {str(argument) for argument in ARGUMENTS}
    assert {"pulse.schedules.create.cwd", "mesh.register.scanRoot", "mesh_discover.roots"} <= named
    assert {"workspace.git.dir", "mesh.allow.path", "get_session_count.cwd", "mesh.move.path"} <= named


def test_no_path_leads_out_by_rest(server: ServerProcess, root: Path, kept: dict[str, str]) -> None:
    """By none of its ways, for any operation; each is refused by the one code, and nothing is changed."""
    found: list[str] = []
    with server.client() as client:
        before = _state(client, root)
        for argument in (each for each in ARGUMENTS if each.tool is None):
            for path in _ways_out(root):
                told = _request(client, argument, argument.given(path, kept))
                if told[1] != argument.code or told[0] not in (200, 403, 404):
                    found.append(f"{argument} {path}: {told}")
            status, code = _request(client, argument, argument.given(f"{root}/a\x00b", kept))
            if status >= 500 or code not in ("invalid_text", argument.code):
                found.append(f"{argument} with U+0000: {status} {code}")
        assert not found, "\n".join(found)
        assert _state(client, root) == before


async def test_no_path_leads_out_by_a_tool(server: ServerProcess, root: Path, kept: dict[str, str]) -> None:
    """The same for what agents call."""
    found: list[str] = []
    headers = {"Authorization": f"Bearer {server.token}"}
    with server.client() as client:
        before = _state(client, root)
        async with httpx2.AsyncClient(headers=headers, timeout=40, trust_env=False, verify=False) as http:
            transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
            async with Client(transport) as agent:
                for argument in ARGUMENTS:
                    if argument.tool is None:
                        continue
                    for path in _ways_out(root):
                        result = await agent.call_tool(argument.tool.name, argument.given(path, kept))
                        text = result.content[0]
                        assert text.type == "text"
                        code = json.loads(text.text).get("code") if result.is_error else None
                        if code != argument.code:
                            found.append(f"{argument} {path}: {code}")
        assert not found, "\n".join(found)
        assert _state(client, root) == before


def test_a_path_inside_is_no_matter_of_the_boundary(server: ServerProcess, kept: dict[str, str]) -> None:
    """Whatever letters it has: the same requests go on to what they are about."""
    with server.client() as client:
        for argument in (each for each in ARGUMENTS if each.tool is None):
            status, code = _request(client, argument, argument.given(kept["inside"], kept))
            assert status < 500, argument
            assert code not in ("outside_boundary", "validation_failed", "invalid_text"), (argument, code)


def test_a_nested_path_would_be_seen() -> None:
    """The rule looks into objects too, and says that it cannot test what it finds there."""

    class Inner(Wire):
        cwd: str

    class Outer(Wire):
        inner: Inner | None

    with pytest.raises(AssertionError, match="cwd"):
        list(_paths_of(Outer))
