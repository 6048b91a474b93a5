"""Defining adapters: what is taken, what is shown of it, and that no answer holds a secret."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_adapters
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.relay.adapters import secrets, wire
from dorkos.vocabulary import AdapterState
from tests.relay.adapters.bench import SECRET, Bench, bench

HOOK = {
    "outbound": {"url": "https://example.com/hook", "secret": SECRET, "headers": {"Authorization": "Basic x"}}
}


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """The adapters of one server, on each engine."""
    async with bench(db, clock, tmp_path) as made:
        yield made


async def test_no_answer_and_no_event_holds_a_secret(here: Bench) -> None:
    """A word in its place says that one is stored; references are shown as they are."""
    config = {**HOOK, "inbound": {"subject": "relay.human.ada", "secret": "env:HOOK_SECRET_OF_TESTS"}}
    await here.add("hook", "webhook", config)
    shown = [wire.view(*each).model_dump(mode="json", by_alias=True) for each in await here.adapters.every()]
    text = json.dumps(shown)
    assert SECRET not in text
    assert "Basic x" not in text
    settings = shown[0]["config"]["config"]
    assert (
        settings["outbound"]["secret"] == settings["outbound"]["headers"]["Authorization"] == secrets.STORED
    )
    assert settings["inbound"]["secret"] == "env:HOOK_SECRET_OF_TESTS"
    assert settings["outbound"]["url"] == "https://example.com/hook"
    told = await here.db.read(lambda connection: list(connection.execute(sa.select(events.c.data)).scalars()))
    assert SECRET not in json.dumps(told)


async def test_an_update_changes_what_is_given_and_keeps_the_rest(here: Bench) -> None:
    """Secrets as well, also when what was shown comes back; `null` takes one away."""
    await here.add("hook", "webhook", {**HOOK, "inbound": {"subject": "relay.human.ada", "secret": SECRET}})
    changed, _ = await here.adapters.update(
        OPERATOR,
        "hook",
        {"outbound": {"url": "https://example.com/other", "secret": secrets.STORED}, "inbound": None},
    )
    whole = secrets.whole(changed.config, changed.secrets)
    assert whole == {"outbound": {**HOOK["outbound"], "url": "https://example.com/other"}}


async def test_an_id_is_part_of_an_address(here: Bench) -> None:
    """Lower-case letters, digits and hyphens, as in the lineage."""
    for adapter_id in ("", "Hook", "hook_1", "hook.1", "x" * 65, "é"):
        with pytest.raises(DorkError) as refused:
            await here.add(adapter_id, "webhook", HOOK)
        assert refused.value.code is ErrorCode.VALIDATION_FAILED
    assert await here.adapters.every() == []


async def test_an_unknown_type_is_refused_and_one_that_is_stored_is_kept(here: Bench) -> None:
    """What a plugin of another version left is shown, and does no harm."""
    with pytest.raises(DorkError, match="no adapters of the type 'pigeon'"):
        await here.add("pigeon", "pigeon", {})

    def change(tx: object) -> None:
        row = {"id": "old", "type": "pigeon", "enabled": True, "config": {"coop": 4}, "secrets": {}}
        tx.execute(relay_adapters.insert(), row | {"created_at": tx.now(), "updated_at": tx.now()})  # type: ignore[attr-defined]  # A transaction.

    await here.db.write(change)
    await here.adapters.start()
    status = await here.until_state("old", AdapterState.ERROR)
    assert "pigeon" in (status.last_error or "")
    with pytest.raises(DorkError, match="pigeon"):
        await here.adapters.switch(OPERATOR, "old", on=True)


async def test_a_second_adapter_with_one_id_is_refused(here: Bench) -> None:
    """The first stays as it is."""
    await here.add("hook", "webhook", HOOK)
    with pytest.raises(DorkError) as refused:
        await here.add("hook", "telegram", {"token": "1:abc"})
    assert refused.value.code is ErrorCode.ADAPTER_EXISTS
    assert (await here.adapters.get("hook"))[0].type == "webhook"


async def test_what_is_not_there_is_not_found(here: Bench) -> None:
    """Whatever is asked of it."""
    for asking in (
        here.adapters.get("x"),
        here.adapters.update(OPERATOR, "x", {}),
        here.adapters.remove(OPERATOR, "x"),
        here.adapters.switch(OPERATOR, "x", on=True),
        here.adapters.test("x"),
    ):
        with pytest.raises(DorkError) as refused:
            await asking
        assert refused.value.code is ErrorCode.ADAPTER_NOT_FOUND


async def test_a_secret_that_cannot_be_had_shows_in_the_state(
    here: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for at the start, and found once it is there."""
    monkeypatch.delenv("HOOK_SECRET_OF_TESTS", raising=False)
    inbound = {"subject": "relay.human.ada", "secret": "env:HOOK_SECRET_OF_TESTS"}
    await here.add("hook", "webhook", {"inbound": inbound})
    await here.adapters.start()
    status = await here.until_state("hook", AdapterState.ERROR)
    assert "HOOK_SECRET_OF_TESTS" in (status.last_error or "")
    assert not (await here.adapters.test("hook")).ok
    monkeypatch.setenv("HOOK_SECRET_OF_TESTS", SECRET)
    await here.adapters.switch(OPERATOR, "hook", on=True)
    await here.until_state("hook", AdapterState.CONNECTED)


def test_a_reference_is_an_environment_variable_or_the_first_line_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else is the secret itself; what is no file is never waited for."""
    monkeypatch.setenv("HOOK_SECRET_OF_TESTS", "from the environment")
    place = tmp_path / "geheim ☕"
    place.write_text("  from a file \nmore\n", encoding="utf-8")
    assert secrets.resolve("env:HOOK_SECRET_OF_TESTS") == "from the environment"
    assert secrets.resolve(f"file:{place}") == "from a file"
    assert secrets.resolve("itself") == "itself"
    (tmp_path / "empty").touch()
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    for wrong in ("empty", "latin", "pipe", "none", "."):
        with pytest.raises(DorkError) as refused:
            secrets.resolve(f"file:{tmp_path / wrong}")
        assert refused.value.code is ErrorCode.SECRET_UNAVAILABLE
    with pytest.raises(DorkError):
        secrets.resolve("file:relative/path")
