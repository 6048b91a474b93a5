"""Pulse's operations: the shapes and words on the wire, and what is refused before anything is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from dorkos.clock import ManualClock, iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.pulse.model import Outcome
from dorkos.pulse.operations import OPERATIONS
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.setting_groups.runtimes import RuntimeSettings
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunReason, RunState, ScheduleStatus, Scope
from tests.pulse.workshop import Workshop, hours, workshop

BODY = {"name": "report", "prompt": "Write it.", "cron": "0 9 * * *", "command": ["true"]}
BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture
async def shop(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse on SQLite, its loops standing still."""
    async with create_test_db(clock=clock) as db:
        yield workshop(db, clock, tmp_path, timezone="Europe/Berlin")


async def ask(shop: Workshop, name: str, /, **fields: Any) -> Any:
    """What the operator's client gets."""
    return await ask_as(OPERATOR, shop, name, **fields)


async def ask_as(caller: Caller, shop: Workshop, name: str, /, **fields: Any) -> Any:
    """What a client gets: the operation called with JSON fields, its answer as JSON."""
    operation = BY_NAME[f"pulse.{name}"]
    answer = await operation.handler(shop.pulse, caller, operation.input.model_validate(fields))
    assert TypeAdapter(operation.answer).validate_python(answer) == answer
    if isinstance(answer, BaseModel):
        return answer.model_dump(mode="json", by_alias=True)
    return [one.model_dump(mode="json", by_alias=True) for one in answer]


async def refusal(shop: Workshop, name: str, /, **fields: Any) -> ErrorCode:
    """The code of the refusal."""
    return await refusal_for(OPERATOR, shop, name, **fields)


async def refusal_for(caller: Caller, shop: Workshop, name: str, /, **fields: Any) -> ErrorCode:
    """The code of the refusal of another caller."""
    with pytest.raises(DorkError) as refused:
        await ask_as(caller, shop, name, **fields)
    assert refused.value.message
    return refused.value.code


def test_paths_statuses_and_scopes() -> None:
    """The lineage's addresses and statuses; changes need operate, looking observe, proposing send."""
    table = {
        (operation.method, operation.path): (operation.status, operation.scope) for operation in OPERATIONS
    }
    schedules, runs = "/api/pulse/schedules", "/api/pulse/runs"
    assert table == {
        ("GET", schedules): (200, Scope.OBSERVE),
        ("POST", schedules): (201, Scope.SEND),
        ("GET", schedules + "/{id}"): (200, Scope.OBSERVE),
        ("PATCH", schedules + "/{id}"): (200, Scope.SEND),
        ("DELETE", schedules + "/{id}"): (200, Scope.OPERATE),
        ("POST", schedules + "/{id}/trigger"): (201, Scope.OPERATE),
        ("GET", schedules + "/{id}/slots"): (200, Scope.OBSERVE),
        ("GET", "/api/pulse/preview"): (200, Scope.OBSERVE),
        ("GET", "/api/pulse/timeline"): (200, Scope.OBSERVE),
        ("GET", "/api/pulse/runtimes"): (200, Scope.OBSERVE),
        ("POST", "/api/pulse/runtimes/{name}/test"): (201, Scope.OPERATE),
        ("GET", "/api/pulse/questions"): (200, Scope.OBSERVE),
        ("POST", runs + "/{id}/resume"): (201, Scope.OPERATE),
        ("POST", schedules + "/{id}/test"): (201, Scope.OPERATE),
        ("GET", "/api/approvals"): (200, Scope.OBSERVE),
        ("GET", "/api/approvals/{id}"): (200, Scope.OBSERVE),
        ("POST", "/api/approvals/{id}/approve"): (200, Scope.OPERATE),
        ("POST", "/api/approvals/{id}/reject"): (200, Scope.OPERATE),
        ("GET", schedules + "/{id}/stats"): (200, Scope.OBSERVE),
        ("GET", "/api/pulse/missed"): (200, Scope.OBSERVE),
        ("POST", "/api/pulse/simulate"): (200, Scope.OBSERVE),
        ("GET", runs): (200, Scope.OBSERVE),
        ("GET", runs + "/{id}"): (200, Scope.OBSERVE),
        ("POST", runs + "/{id}/cancel"): (200, Scope.OPERATE),
        ("GET", runs + "/{id}/output"): (200, Scope.OBSERVE),
    }
    assert {operation.part for operation in OPERATIONS} == {"pulse"}


async def test_what_an_agent_creates_waits_for_a_person(shop: Workshop) -> None:
    """It says who proposed it and why, has no next instant, cannot be triggered, and fires once approved."""
    agent = Caller("relay.agent.home.scout", frozenset({Scope.SEND, Scope.RECEIVE}))
    sent = {"name": "sweep", "prompt": "Sweep.", "cron": "0 9 * * *", "command": ["true"]}

    proposed = await ask_as(agent, shop, "schedules.create", **sent, reason="It is dusty.")

    assert (proposed["status"], proposed["createdBy"], proposed["reason"], proposed["nextRuns"]) == (
        "pending_approval",
        agent.subject,
        "It is dusty.",
        [],
    )
    assert await refusal(shop, "schedules.trigger", id=proposed["id"]) is ErrorCode.FORBIDDEN
    approved = await ask(shop, "schedules.update", id=proposed["id"], status="active")
    assert (approved["status"], len(approved["nextRuns"])) == ("active", 5)


@pytest.mark.parametrize("said", [{}, {"reason": None}, {"reason": " "}], ids=str)
async def test_an_agent_has_to_say_why(shop: Workshop, said: dict[str, Any]) -> None:
    """Without a reason nobody could judge it, so nothing is stored."""
    agent = Caller("relay.agent.home.scout", frozenset({Scope.SEND}))
    sent = {"name": "sweep", "prompt": "Sweep.", "command": ["true"], **said}

    assert await refusal_for(agent, shop, "schedules.create", **sent) is ErrorCode.REASON_REQUIRED
    assert await ask(shop, "schedules.list") == []


async def test_a_schedule_on_the_wire(shop: Workshop, clock: ManualClock, tmp_path: Path) -> None:
    """All keys of the lineage with its meaning, ours beside them, and the next five instants."""
    made = await ask(shop, "schedules.create", **BODY, cwd=str(tmp_path), maxRuntime=60_000)
    now = iso(clock.now())
    assert made == {
        "id": made["id"],
        "name": "report",
        "description": None,
        "prompt": "Write it.",
        "cron": "0 9 * * *",
        "everyMs": None,
        "runAt": None,
        "timezone": None,
        "resolvedTimezone": "Europe/Berlin",
        "cwd": str(tmp_path),
        "agentId": None,
        "command": ["true"],
        "runtime": None,
        "targetSubject": None,
        "enabled": True,
        "status": "active",
        "state": "active",
        "statusReason": None,
        "maxRuntime": 60_000,
        "permissionMode": "acceptEdits",
        "overlap": "skip",
        "maxActive": None,
        "catchUp": "latest",
        "catchUpWindowMs": None,
        "catchUpMax": None,
        "jitterMs": 0,
        "maxAttempts": 1,
        "retryDelayMs": None,
        "repeatable": False,
        "idleTimeoutMs": None,
        "alarmAfterMs": None,
        "pauseAfterFailures": None,
        "failuresInRow": 0,
        "alarm": None,
        "revision": 1,
        "createdBy": OPERATOR.subject,
        "reason": None,
        "grantHash": made["grantHash"],
        "createdAt": now,
        "updatedAt": now,
        "nextRun": "2026-03-02T08:00:00.000Z",
        "nextRuns": [f"2026-03-0{day}T08:00:00.000Z" for day in range(2, 7)],
    }
    assert await ask(shop, "schedules.get", id=made["id"]) == made
    (listed,) = await ask(shop, "schedules.list")
    assert listed == {key: value for key, value in made.items() if key != "nextRuns"}


async def test_what_an_old_client_sends(shop: Workshop) -> None:
    """Unknown keys and empty form fields do no harm; text around a name is not part of it."""
    made = await ask(
        shop, "schedules.create", **(BODY | {"name": "  report "}), timezone="", cwd="", colour="red"
    )
    assert (made["name"], made["timezone"], made["cwd"]) == ("report", None, None)


async def test_zones_get_their_real_name(shop: Workshop) -> None:
    """UTC stays UTC; a name in another case is stored as it is spelled."""
    made = await ask(shop, "schedules.create", **BODY, timezone="utc")
    assert (made["timezone"], made["resolvedTimezone"]) == ("UTC", "UTC")


async def test_cron_is_never_null(shop: Workshop, clock: ManualClock) -> None:
    """One instant is answered as `@at`, on demand as `@manual`; both are accepted in either form."""
    at = clock.now() + timedelta(days=1)
    once = await ask(shop, "schedules.create", **(BODY | {"cron": None}), runAt="2026-03-02T10:00:00+01:00")
    assert (once["cron"], once["runAt"]) == ("@at 2026-03-02T09:00:00.000Z", iso(at))
    assert once["nextRuns"] == [iso(at)]
    same = await ask(shop, "schedules.create", **(BODY | {"cron": once["cron"]}))
    assert (same["cron"], same["runAt"], same["nextRun"]) == (once["cron"], iso(at), iso(at))
    for cron in (None, "@manual"):
        manual = await ask(shop, "schedules.create", **(BODY | {"cron": cron}))
        assert (manual["cron"], manual["nextRun"], manual["nextRuns"]) == ("@manual", None, [])


async def test_an_interval_on_the_wire(shop: Workshop, clock: ManualClock) -> None:
    """Written as `@every` or in milliseconds, answered as both, with its next instants."""
    words = await ask(shop, "schedules.create", **(BODY | {"cron": "@every 90m"}))
    number = await ask(shop, "schedules.create", **(BODY | {"cron": None}), everyMs=5_400_000)
    for made in (words, number):
        assert (made["cron"], made["everyMs"], made["runAt"]) == ("@every 1h30m", 5_400_000, None)
        assert made["nextRun"] == made["nextRuns"][0] == iso(clock.now() + timedelta(minutes=90))
    cron = await ask(shop, "schedules.update", id=words["id"], cron="0 9 * * *")
    assert (cron["cron"], cron["everyMs"]) == ("0 9 * * *", None)


@pytest.mark.parametrize(
    "cron",
    [
        *("@every", "@every 5", "@every 999ms", "@every 0s", "@every 367d", "@every -5m", "@every 5m soon"),
        *("@every 1.5h", "@every 9999999999999999w", "@every ٣m", "@Every 5 minutes"),
    ],
)
async def test_what_is_no_interval_is_refused(shop: Workshop, cron: str) -> None:
    """With the same code as any other trigger that cannot be read."""
    assert await refusal(shop, "schedules.create", **(BODY | {"cron": cron})) is ErrorCode.INVALID_CRON


@pytest.mark.parametrize(
    ("cron", "fields"),
    [
        ("0 9 * * *", {"everyMs": 60_000}),
        ("@every 5m", {"everyMs": 60_000}),
        ("@every 5m", {"runAt": "2026-03-02T09:00:00Z"}),
        ("@at 2026-03-02T09:00:00Z", {"runAt": "2026-03-02T10:00:00Z"}),
        ("@manual", {"everyMs": 60_000, "runAt": "2026-03-02T10:00:00Z"}),
    ],
)
async def test_two_triggers_are_refused(shop: Workshop, cron: str, fields: dict[str, Any]) -> None:
    """A schedule has one; which of two was meant nobody can tell."""
    sent = BODY | {"cron": cron} | fields
    assert await refusal(shop, "schedules.create", **sent) is ErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize("cron", ["0 9 * * *", "@every 15m", "@at 2026-03-02T09:00:00Z", "@manual"])
async def test_a_schedule_may_be_sent_back_whole(shop: Workshop, cron: str) -> None:
    """All keys of an answer are taken as an edit that changes nothing but the revision."""
    made = await ask(shop, "schedules.create", **(BODY | {"cron": cron}))
    sent = {key: value for key, value in made.items() if key not in ("agentId", "id")}
    edited = await ask(shop, "schedules.update", id=made["id"], **sent)
    assert edited | {"revision": 1} == made


async def test_null_clears_only_the_trigger_it_names(shop: Workshop) -> None:
    """`runAt` or `everyMs` null leaves another trigger as it is, and makes its own into on demand."""
    cron = await ask(shop, "schedules.create", **BODY)
    kept = await ask(shop, "schedules.update", id=cron["id"], runAt=None, everyMs=None)
    assert kept["cron"] == BODY["cron"]
    every = await ask(shop, "schedules.create", **(BODY | {"cron": "@every 15m"}))
    cleared = await ask(shop, "schedules.update", id=every["id"], everyMs=None)
    assert (cleared["cron"], cleared["nextRun"]) == ("@manual", None)


async def test_a_preview_needs_no_schedule(shop: Workshop, clock: ManualClock) -> None:
    """The next instants of a trigger with the zone they are in, the setting's if none is named."""
    inherited = await ask(shop, "preview", cron="0 9 * * *")
    assert (inherited["timezone"], inherited["resolvedTimezone"]) == (None, "Europe/Berlin")
    assert inherited["nextRuns"] == [f"2026-03-0{day}T08:00:00.000Z" for day in range(2, 7)]
    named = await ask(
        shop,
        "preview",
        cron="30 2 * * *",
        timezone="america/new_york",
        after="2026-03-07T12:00:00Z",
        count=2,
    )
    assert named == {
        "cron": "30 2 * * *",
        "timezone": "America/New_York",
        "resolvedTimezone": "America/New_York",
        "nextRuns": ["2026-03-08T07:00:00.000Z", "2026-03-09T06:30:00.000Z"],
    }
    every = await ask(shop, "preview", cron="@every 600s", count=1)
    assert (every["cron"], every["nextRuns"]) == ("@every 10m", [iso(clock.now() + timedelta(minutes=10))])
    assert (await ask(shop, "preview", cron="@manual"))["nextRuns"] == []
    assert await ask(shop, "schedules.list") == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"cron": "every day at noon"}, ErrorCode.INVALID_CRON),
        ({"cron": "0 0 30 2 *"}, ErrorCode.INVALID_CRON),
        ({"cron": "0 9 * * *", "timezone": "Mars/Base"}, ErrorCode.INVALID_TIMEZONE),
        ({"cron": "0 9 * * *", "after": "tomorrow"}, ErrorCode.INVALID_INSTANT),
    ],
)
async def test_a_preview_refuses_what_a_schedule_would(
    shop: Workshop, asked: dict[str, str], code: ErrorCode
) -> None:
    """So that it can be tried before it is stored."""
    assert await refusal(shop, "preview", **asked) is code


async def test_a_client_may_send_back_all_it_read(shop: Workshop, clock: ManualClock) -> None:
    """An edit with every field as it was read changes only what differs, also after the instant passed."""
    made = await ask(shop, "schedules.create", **(BODY | {"cron": "@at 2026-03-01T10:00:00Z"}))
    hours(clock, 5)
    sent = ("cron", "timezone", "cwd", "maxRuntime", "permissionMode", "command")
    fields = {key: made[key] for key in sent}
    edited = await ask(shop, "schedules.update", id=made["id"], **fields, name="renamed")
    assert (edited["name"], edited["cron"], edited["nextRun"]) == ("renamed", made["cron"], made["nextRun"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cron": "every day"}, ErrorCode.INVALID_CRON),
        ({"cron": "@reboot"}, ErrorCode.INVALID_CRON),
        ({"cron": "0 0 30 2 *"}, ErrorCode.INVALID_CRON),
        ({"cron": "@at tomorrow"}, ErrorCode.INVALID_INSTANT),
        ({"cron": "@at 2026-03-02T09:00:00"}, ErrorCode.INVALID_INSTANT),
        ({"cron": "@at 2026-03-01T08:00:00Z"}, ErrorCode.INVALID_INSTANT),
        ({"cron": "@at 9999-12-31T23:59:59-12:00"}, ErrorCode.INVALID_INSTANT),
        ({"runAt": "2026-03-02T09:00:00Z"}, ErrorCode.VALIDATION_FAILED),
        ({"timezone": "Mars/Olympus_Mons"}, ErrorCode.INVALID_TIMEZONE),
        ({"timezone": "../../etc/passwd"}, ErrorCode.INVALID_TIMEZONE),
        ({"cwd": "/"}, ErrorCode.OUTSIDE_BOUNDARY),
        ({"cwd": "a\x00b"}, ErrorCode.INVALID_TEXT),
        ({"prompt": "a\x00b"}, ErrorCode.INVALID_TEXT),
        ({"command": ["echo", "a\x00b"]}, ErrorCode.INVALID_TEXT),
        ({"command": ["true"], "agentId": "01J000000000000000000000AA"}, ErrorCode.VALIDATION_FAILED),
        ({"command": None, "agentId": "01J000000000000000000000AA"}, ErrorCode.AGENT_NOT_FOUND),
        ({"enabled": None}, ErrorCode.VALIDATION_FAILED),
        ({"permissionMode": None}, ErrorCode.VALIDATION_FAILED),
    ],
)
async def test_bad_schedules_are_refused(shop: Workshop, fields: dict[str, Any], code: ErrorCode) -> None:
    """Each with its code, and nothing is stored; as an edit it changes nothing either."""
    assert await refusal(shop, "schedules.create", **(BODY | fields)) is code
    assert await ask(shop, "schedules.list") == []
    made = await ask(shop, "schedules.create", **BODY)
    if "runAt" not in fields:
        assert await refusal(shop, "schedules.update", id=made["id"], name="x", **fields) is code
        assert await ask(shop, "schedules.get", id=made["id"]) == made


async def test_what_names_nothing_to_run_is_run_by_the_product(shop: Workshop) -> None:
    """A client of DorkOS for Node sends a prompt and means Claude Code; an edit to nothing is refused."""
    made = await ask(shop, "schedules.create", name="panel", prompt="Tidy.", cron="0 9 * * *")
    assert (made["runtime"], made["command"], made["agentId"]) == ("claude", None, None)
    refused = await refusal(shop, "schedules.update", id=made["id"], runtime=None)
    assert refused is ErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize(
    ("default", "alone"), [(None, "claude"), ("codex", "codex"), ("acp", "claude"), ("command", "claude")]
)
def test_the_default_runtime_takes_what_names_nothing(
    tmp_path: Path, default: str | None, alone: str
) -> None:
    """Unless it would need a program to drive."""
    assert RuntimeCatalog(RuntimeSettings(default=default), tmp_path).alone == alone


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 201},
        {"name": None},
        {"prompt": ""},
        {"prompt": "ü" * 50_001},
        {"command": []},
        {"command": [" "]},
        {"command": ["x"] * 101},
        {"command": "true"},
        {"maxRuntime": 0},
        {"maxRuntime": 2**40},
        {"maxRuntime": "soon"},
        {"maxRuntime": True},
        {"enabled": "yes"},
        {"permissionMode": "everything"},
        {"agentId": "../x"},
        {"everyMs": 999},
        {"everyMs": 367 * 86_400_000},
        {"overlap": "sometimes"},
        {"maxActive": 0},
        {"catchUp": "some"},
        {"catchUpWindowMs": 999},
        {"catchUpMax": 201},
        {"jitterMs": -1},
        {"maxAttempts": 21},
        {"retryDelayMs": 3_600_001},
        {"repeatable": "yes"},
        {"pauseAfterFailures": 0},
        {"runtime": "no such/thing"},
    ],
)
def test_fields_out_of_range_are_invalid(fields: dict[str, Any]) -> None:
    """The input model refuses them, so they never reach the handler."""
    with pytest.raises(ValidationError):
        BY_NAME["pulse.schedules.create"].input.model_validate(BODY | fields)


async def test_the_largest_allowed_schedule(shop: Workshop) -> None:
    """The limits themselves are allowed."""
    made = await ask(
        shop,
        "schedules.create",
        name="x" * 200,
        prompt="ü" * 50_000,
        cron="@daily",
        command=["x"] * 100,
    )
    assert len(made["command"]) == 100


async def test_an_edit_changes_only_what_was_sent(shop: Workshop, tmp_path: Path) -> None:
    """Other fields stay; null clears what may be empty; another target replaces the one there was."""
    agent = await shop.register("true", folder=tmp_path)
    made = await ask(shop, "schedules.create", **BODY, cwd=str(tmp_path), timezone="UTC")
    edited = await ask(shop, "schedules.update", id=made["id"], enabled=False)
    assert edited | {"enabled": True, "nextRun": made["nextRun"], "nextRuns": made["nextRuns"]} == made | {
        "revision": 2
    }
    edited = await ask(
        shop, "schedules.update", id=made["id"], cwd=None, timezone=None, agentId=agent.id, enabled=True
    )
    assert (edited["cwd"], edited["timezone"], edited["command"]) == (None, None, None)
    assert edited["agentId"] == agent.id
    edited = await ask(shop, "schedules.update", id=made["id"], command=["false"])
    assert (edited["agentId"], edited["command"]) == (None, ["false"])


async def test_a_pending_schedule_is_approved_by_an_edit(shop: Workshop) -> None:
    """Setting the status to active is the approval, from which on it fires."""
    made = await ask(shop, "schedules.create", **BODY)
    pending = await ask(shop, "schedules.update", id=made["id"], status="pending_approval")
    assert pending["nextRun"] is None
    assert await refusal(shop, "schedules.trigger", id=made["id"]) is ErrorCode.FORBIDDEN
    approved = await ask(shop, "schedules.update", id=made["id"], status="active", enabled=True)
    assert approved["nextRun"] == made["nextRun"]


@pytest.mark.parametrize(
    ("state", "reason", "word"),
    [
        (RunState.COMPLETED, None, "completed"),
        (RunState.FAILED, RunReason.EXIT_CODE, "failed"),
        (RunState.TIMEOUT, RunReason.DEADLINE, "failed"),
        (RunState.INTERRUPTED, RunReason.SHUTDOWN, "failed"),
        (RunState.BLOCKED, None, "failed"),
        (RunState.CANCELLED, RunReason.CANCEL_REQUESTED, "cancelled"),
    ],
)
async def test_old_words_and_new(
    shop: Workshop, state: RunState, reason: RunReason | None, word: str
) -> None:
    """`status` is a word of the lineage, `state` the exact one; the filter takes both."""
    made = await ask(shop, "schedules.create", **BODY)
    run_id = (await ask(shop, "schedules.trigger", id=made["id"]))["runId"]
    waiting = await ask(shop, "runs.get", id=run_id)
    assert (waiting["status"], waiting["state"], waiting["startedAt"]) == ("running", "queued", None)
    (claim,) = await shop.claimed()
    outcome = Outcome(state, reason, "why", 1, "the end")
    await shop.store.finish_run(claim.run, claim.lease_token, outcome)

    run = await ask(shop, "runs.get", id=run_id)
    assert (run["status"], run["state"], run["reason"]) == (word, state, reason)
    assert (run["outputSummary"], run["error"], run["exitCode"]) == ("the end", "why", 1)
    assert (run["trigger"], run["scheduleId"], run["sessionId"]) == ("manual", made["id"], None)
    for status in RunState:
        found = await ask(shop, "runs.list", status=status.value)
        assert bool(found) == (status.value in (word, state.value)), status


async def test_an_old_client_sees_what_needs_attention_as_paused(shop: Workshop) -> None:
    """`status` is a word of the lineage, `state` the exact one with its reason; the filter takes both."""
    made = [await ask(shop, "schedules.create", **BODY) for _ in range(3)]
    broken = await shop.store.get_schedule(made[0]["id"])
    await shop.store.need_attention(broken, "The clock has no such hour.")
    await ask(shop, "schedules.update", id=made[1]["id"], status="paused")

    found = await ask(shop, "schedules.get", id=broken.id)
    assert (found["status"], found["state"]) == ("paused", "needs_attention")
    assert (found["statusReason"], found["nextRun"]) == ("The clock has no such hour.", None)
    listed = {
        status: [made.index(next(each for each in made if each["id"] == one["id"])) for one in rows]
        for status in ScheduleStatus
        for rows in [await ask(shop, "schedules.list", status=status.value)]
    }
    assert listed == {"active": [2], "paused": [0, 1], "pending_approval": [], "needs_attention": [0]}
    assert len(await ask(shop, "schedules.list")) == 3


async def test_running_is_also_what_waits(shop: Workshop) -> None:
    """The old word running covers queued and running; the new word queued only what waits."""
    made = await ask(shop, "schedules.create", **BODY)
    for _ in range(2):
        await ask(shop, "schedules.trigger", id=made["id"])
    await shop.claimed()
    assert len(await ask(shop, "runs.list", status="running")) == 2
    (waiting,) = await ask(shop, "runs.list", status="queued")
    assert waiting["state"] == "queued"


async def test_cancelling_says_what_happened(shop: Workshop) -> None:
    """A waiting run is finished, a running one is stopping, an ended one is refused."""
    made = await ask(shop, "schedules.create", **BODY)
    first, second = [(await ask(shop, "schedules.trigger", id=made["id"]))["runId"] for _ in range(2)]
    await shop.claimed(1)
    assert await ask(shop, "runs.cancel", id=first) == {"success": True, "outcome": "stopping"}
    assert await ask(shop, "runs.cancel", id=second) == {"success": True, "outcome": "finished"}
    assert await refusal(shop, "runs.cancel", id=second) is ErrorCode.RUN_NOT_ACTIVE


async def test_output_is_followed_by_its_number(shop: Workshop) -> None:
    """An empty page answers the number that was asked with, so that a follower goes on from there."""
    made = await ask(shop, "schedules.create", **BODY)
    run_id = (await ask(shop, "schedules.trigger", id=made["id"]))["runId"]
    assert await ask(shop, "runs.output", id=run_id, after=7) == {"chunks": [], "nextSeq": 7, "final": False}


async def test_slots_show_what_was_decided(shop: Workshop, clock: ManualClock) -> None:
    """Newest first, each with verdict, reason and the run it led to."""
    made = await ask(shop, "schedules.create", **(BODY | {"cron": "0 * * * *"}))
    hours(clock, 3)
    await shop.scheduler().work()
    newest, span = await ask(shop, "schedules.slots", id=made["id"])
    assert (newest["verdict"], newest["reason"], newest["dueAt"]) == ("run", "catch_up", iso(clock.now()))
    assert (span["verdict"], span["count"], span["runId"]) == ("coalesced", 2, None)
    (run,) = await ask(shop, "runs.list", scheduleId=made["id"])
    assert newest["runId"] == run["id"]
    assert [one["id"] for one in await ask(shop, "schedules.slots", id=made["id"], offset=1)] == [span["id"]]


async def test_deleting_answers_success(shop: Workshop) -> None:
    """The answer has a body; after it the schedule is not found."""
    made = await ask(shop, "schedules.create", **BODY)
    assert await ask(shop, "schedules.delete", id=made["id"]) == {"success": True}
    for name in ("get", "delete", "trigger", "slots", "update"):
        assert await refusal(shop, f"schedules.{name}", id=made["id"]) is ErrorCode.SCHEDULE_NOT_FOUND


@pytest.mark.parametrize("name", ["runs.get", "runs.cancel", "runs.output"])
async def test_unknown_runs(shop: Workshop, name: str) -> None:
    """An id that names no run is not found."""
    assert await refusal(shop, name, id=new_id()) is ErrorCode.RUN_NOT_FOUND


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 501},
        {"limit": ""},
        {"offset": -1},
        {"offset": 2**60},
        {"status": "odd"},
        {"scheduleId": "a/b"},
    ],
)
def test_queries_out_of_range_are_invalid(query: dict[str, Any]) -> None:
    """Limits, offsets and words are checked."""
    with pytest.raises(ValidationError):
        BY_NAME["pulse.runs.list"].input.model_validate(query)


@pytest.mark.parametrize("cron", ["", "   "])
async def test_an_empty_cron_expression_is_refused(shop: Workshop, cron: str) -> None:
    """It would be a schedule that never fires, made by an unset variable."""
    with pytest.raises(DorkError) as refusal:
        await ask(shop, "schedules.create", **(BODY | {"cron": cron}))

    assert refusal.value.code is ErrorCode.INVALID_CRON
