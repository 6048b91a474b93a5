"""Settings over the API: shown without secrets, changed all or nothing, live where they can be."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dorkos.boundary import Boundary
from dorkos.server.config import CONFIG
from dorkos.server.configuration import Configuration
from dorkos.server.status import SYSTEM
from dorkos.settings import SETTINGS, load_settings
from tests.server.kit import Served, serving

PATH = "/api/config"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The settings file of the server below, with a password and a comment."""
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    path.write_text('# mine\n[database]\nurl = "postgresql://kim:swordfish@db/n"\n', "utf-8")
    return path


@pytest.fixture
async def served(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server started with a port by flag and a host by environment."""
    monkeypatch.setenv("DORKOS_HOST", "::1")
    loaded = load_settings(file, environment={"DORKOS_HOST": "::1"}, flags={"server.port": 4711})
    part = Configuration(
        file,
        loaded,
        boundary=Boundary(tmp_path, data_directory=file.parent),
        url=lambda: "http://127.0.0.1:4711",
        uptime_s=lambda: 1.5,
    )
    level = logging.getLogger().level
    async with serving(operations=(*SYSTEM, *CONFIG), parts={"config": part}) as served:
        yield served
    logging.getLogger().setLevel(level)


def said(file: Path) -> str:
    """What the file says."""
    return file.read_text("utf-8")


def say(file: Path, text: str) -> None:
    """Have it say this."""
    file.write_text(text, "utf-8")


async def patch(served: Served, body: Any, status: int = 200) -> Any:
    """The answer to a change."""
    answer = await served.client.patch(PATH, json=body)
    assert answer.status_code == status, answer.text
    assert "swordfish" not in answer.text
    return answer.json()


async def test_a_client_learns_at_its_start_what_it_asks_for(served: Served, tmp_path: Path) -> None:
    """The lineage's keys, each with what is true here."""
    shown = (await served.client.get(PATH)).json()
    assert shown["tunnel"] == {
        "enabled": False,
        "connected": False,
        "url": None,
        "authEnabled": False,
        "tokenConfigured": False,
    }
    assert (shown["port"], shown["uptime"], shown["boundary"]) == (4711, 1.5, str(tmp_path))
    assert shown["workingDirectory"] == str(tmp_path)
    assert shown["latestVersion"] is None
    assert shown["mesh"] == {"enabled": True, "scanRoots": []}


async def test_each_setting_tells_its_value_its_source_and_no_secret(served: Served, file: Path) -> None:
    """All of them, in the order of the reference."""
    answer = await served.client.get(f"{PATH}/settings")
    assert "swordfish" not in answer.text
    rows = {row["key"]: row for row in answer.json()}
    assert list(rows) == [row.key for row in SETTINGS]
    assert (rows["server.port"]["value"], rows["server.port"]["source"]) == (4711, "flag")
    assert (rows["server.host"]["value"], rows["server.host"]["source"]) == ("::1", "environment")
    assert rows["database.url"]["source"] == f"file {file}"
    assert rows["database.url"]["value"] == "postgresql://kim:[redacted]@db/n"
    assert rows["database.url"]["secret"] is True
    assert rows["logging.level"]["live"] is True


async def test_a_change_is_written_and_waits_for_the_next_start(served: Served, file: Path) -> None:
    """The answer and the list say so; the comment stays."""
    answer = await patch(served, {"relay": {"maxHops": 9}})
    assert (answer["success"], answer["changed"], answer["restartNeeded"]) == (
        True,
        ["relay.maxHops"],
        ["relay.maxHops"],
    )
    assert answer["config"]["relay"]["maxHops"] == 9
    assert "warnings" not in answer
    assert said(file).startswith("# mine\n")
    rows = {row["key"]: row for row in (await served.client.get(f"{PATH}/settings")).json()}
    row = rows["relay.maxHops"]
    assert (row["value"], row["coming"], row["restartNeeded"]) == (5, 9, True)


async def test_a_live_setting_holds_at_once(served: Served) -> None:
    """And needs no restart."""
    answer = await patch(served, {"logging": {"level": "debug"}})
    assert (answer["changed"], answer["restartNeeded"]) == (["logging.level"], [])
    assert logging.getLogger().level == logging.DEBUG
    rows = {row["key"]: row for row in (await served.client.get(f"{PATH}/settings")).json()}
    assert rows["logging.level"]["value"] == "debug"


async def test_what_has_no_effect_or_holds_a_secret_is_warned_of(served: Served) -> None:
    """A flag and the environment win over the file, and a password in a file can be read."""
    answer = await patch(
        served,
        {
            "server": {"port": 5000, "host": "127.0.0.1"},
            "database": {"url": "postgresql://u:swordfish@h/n"},
            "tunnel": {"authtoken": "swordfish"},
            "version": 1,
        },
    )
    told = "\n".join(answer["warnings"])
    assert len(answer["warnings"]) == 4
    for word in ("flag", "DORKOS_HOST", "DORKOS_DATABASE_URL", "tunnel.authtoken"):
        assert word in told
    assert answer["restartNeeded"] == ["database.url"]
    assert "tunnel" not in answer["config"]


async def test_every_broken_rule_is_named_and_nothing_is_changed(served: Served, file: Path) -> None:
    """As the lineage told it: a list of `key: message`."""
    before = said(file)
    body = {"server": {"port": 1.5, "prot": 1}, "relay": {"maxHops": 3}, "ui": 7, "colour": "red"}
    answer = await patch(served, body, 400)
    assert answer["error"] == "Validation failed"
    assert {line.split(":")[0] for line in answer["details"]} == {
        "server.port",
        "server.prot",
        "ui",
        "colour",
    }
    assert said(file) == before


async def test_a_null_takes_a_setting_out_and_nothing_is_nothing(served: Served, file: Path) -> None:
    """An empty body is no change."""
    assert (await patch(served, {}))["changed"] == []
    await patch(served, {"relay": {"maxHops": 9}})
    assert (await patch(served, {"relay": {"maxHops": None}}))["config"]["relay"]["maxHops"] == 5
    assert "maxHops" not in said(file)
    answer = await served.client.patch(PATH, json=[1])
    assert (answer.status_code, "JSON object" in answer.json()["error"]) == (400, True)


async def test_a_file_that_cannot_be_read_is_left_alone(served: Served, file: Path) -> None:
    """The refusal names it; what the server runs with is still shown."""
    say(file, "[server\n")
    answer = await served.client.patch(PATH, json={"relay": {"maxHops": 9}})
    assert answer.json()["code"] == "invalid_setting"
    assert said(file) == "[server\n"
    assert (await served.client.get(f"{PATH}/settings")).json()["code"] == "invalid_setting"
    assert (await served.client.get(PATH)).status_code == 200
