"""The operations about the fleet's mode: whether work may start at all."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from dorkos.clock import iso
from dorkos.fleet import Fleet, FleetService, Waiting
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire
from dorkos.storable import check_storable
from dorkos.vocabulary import FleetMode, Scope

_PATH = "/api/system/fleet"


class FleetStatus(Wire):
    """The fleet's mode. `since`, `reason` and `actor` are null as long as nobody has set it."""

    mode: FleetMode
    reason: str | None
    actor: str | None
    since: str | None


class WaitingOut(Wire):
    """What a hold keeps back, and how many runs are at work."""

    runs_queued: int
    runs_running: int
    deliveries_pending: int


class FleetOut(FleetStatus):
    """The fleet's mode, and what waits."""

    waiting: WaitingOut


class FleetChanged(FleetOut):
    """The mode that there is now. `changed` is false if it was that already: nothing changed then."""

    changed: bool


class SetFleet(Wire):
    """The mode to set."""

    mode: FleetMode = Field(
        description="`hold`: nothing starts. `stop`: also end what runs. `drain`: finish what was accepted, "
        "take nothing new. `running`: lift it."
    )
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] | None = Field(
        None, description="Why, for whoever wonders that nothing happens."
    )


def fleet_status(fleet: Fleet) -> FleetStatus:
    """The mode as clients see it."""
    return FleetStatus(**_facts(fleet))


async def show(service: FleetService, _caller: Caller, _asked: Nothing) -> FleetOut:
    """The mode and what waits."""
    fleet, waiting = await service.look()
    return FleetOut(**_facts(fleet), waiting=_waiting(waiting))


async def change(service: FleetService, caller: Caller, asked: SetFleet) -> FleetChanged:
    """Set the mode, and say what waits then."""
    check_storable(asked.reason)
    _, changed = await service.change(asked.mode, reason=asked.reason or None, actor=caller.subject)
    fleet, waiting = await service.look()
    return FleetChanged(**_facts(fleet), waiting=_waiting(waiting), changed=changed)


def _facts(fleet: Fleet) -> dict[str, Any]:
    return {
        "mode": fleet.mode,
        "reason": fleet.reason,
        "actor": fleet.actor,
        "since": None if fleet.since is None else iso(fleet.since),
    }


def _waiting(waiting: Waiting) -> WaitingOut:
    return WaitingOut(
        runs_queued=waiting.runs_queued,
        runs_running=waiting.runs_running,
        deliveries_pending=waiting.deliveries_pending,
    )


FLEET: tuple[Operation[FleetService, Any, Any], ...] = (
    Operation(
        name="fleet.show",
        summary="Whether work may start, and what waits",
        part="fleet",
        method="GET",
        path=_PATH,
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=FleetOut,
        handler=show,
        tags=("system",),
        mcp=McpTool(
            "get_fleet", "Show whether work may start at all, and what waits if not.", read_only=True
        ),
    ),
    Operation(
        name="fleet.set",
        summary="Put the whole fleet on hold, stop or drain it, or set it running again",
        part="fleet",
        method="POST",
        path=_PATH,
        scope=Scope.OPERATE,
        input=SetFleet,
        answer=FleetChanged,
        handler=change,
        tags=("system",),
        mcp=NoTool("It is the brake of the person who owns the agents: `dorkos fleet` sets it."),
    ),
)
