"""Readiness: a round trip through database, bus, scheduler and registry, not a look at flags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import nodes, system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import FleetService
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.lifecycle import Loop
from dorkos.mesh.service import MeshService
from dorkos.node import Node
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.service import RelayService
from dorkos.server.health import ReadinessCheck
from dorkos.vocabulary import PublishOutcome

PROBE_SUBJECT = "relay.system.readiness"


class _UndoError(Exception):
    """Takes a probe's rows back: it went the whole way and leaves nothing behind."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__()
        self.receipt = receipt


def checks(
    *,
    database: Database,
    node: Node,
    loops: Sequence[Loop],
    relay: RelayService,
    mesh: MeshService,
    fleet: FleetService,
) -> tuple[ReadinessCheck, ...]:
    """The checks of a whole system, in the order in which parts stand on one another.

    `node` is this server, as the database knows it since its start.
    """

    async def database_answers() -> None:
        if database.damage is not None:
            raise _not_ready(f"{database.damage} Run `dorkos db verify`")

        def touch(tx: Transaction) -> tuple[bool, bool]:
            # A new value, and one that stays: SQLite writes nothing for a value that is there already, and a
            # disk that takes nothing would then look sound.
            beat = nodes.update().where(nodes.c.id == node.id).values(heartbeat_at=tx.now())
            epoch = sa.select(system_state.c.value).where(system_state.c.key == "epoch")
            return tx.execute(beat).rowcount == 1, tx.execute(epoch).one_or_none() is not None

        is_listed, has_epoch = await database.write(touch)
        if not has_epoch:
            raise _not_ready("the database holds no epoch; start the server again, which makes one")
        if not is_listed:
            raise _not_ready("the database does not know this server any more; start it again")

    async def bus_takes_a_message() -> None:
        def publish_and_undo(tx: Transaction) -> None:
            raise _UndoError(relay.publish_in(tx, OPERATOR, Envelope(new_id(), PROBE_SUBJECT)))

        try:
            await database.write(publish_and_undo)
        except _UndoError as undone:
            outcomes = [recipient.outcome for recipient in undone.receipt.recipients]
            if outcomes != [PublishOutcome.NO_RECIPIENT]:
                raise _not_ready(f"a probe message had the outcome {outcomes}") from None

    async def registry_answers() -> None:
        await mesh.registry.list(limit=1)

    async def fleet_mode_is_known() -> str | None:
        # A hold is what a person wanted, so it is worth telling and no fault.
        mode = await fleet.fleet()
        return None if mode.fires else str(mode)

    return (
        ReadinessCheck("database", database_answers),
        ReadinessCheck("bus", bus_takes_a_message),
        ReadinessCheck("registry", registry_answers),
        ReadinessCheck("fleet", fleet_mode_is_known),
        *(ReadinessCheck(loop.name, _works(loop)) for loop in loops),
    )


def _works(loop: Loop) -> Callable[[], Awaitable[None]]:
    async def probe() -> None:
        if not loop.is_running:
            raise _not_ready("it is not running")
        if loop.failure is not None:
            raise _not_ready(loop.failure)

    return probe


def _not_ready(why: str) -> DorkError:
    return DorkError(ErrorCode.NOT_READY, why)
