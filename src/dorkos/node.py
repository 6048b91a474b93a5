"""This server as a node: what identifies the process, so that another can tell whether it is gone."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import sqlalchemy as sa

from dorkos import __version__
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.system import nodes
from dorkos.ids import new_id
from dorkos.lifecycle import Loop

# How often a server says that it is there, and after how long a silence it counts as away.
_HEARTBEAT_S = 60.0
AWAY_AFTER = timedelta(minutes=5)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Node:
    """One life of one server process. `id` is the owner named in its leases."""

    id: str
    host: str
    boot_id: str
    pid: int


def this_node(host: str = "") -> Node:
    """A node for the current process, with a new id: a restarted server is another node.

    `host` is what the machine is called in the settings, if they say it.
    """
    return Node(new_id(), host or socket.gethostname(), current_boot_id(), os.getpid())


def current_boot_id() -> str:
    """What tells this boot of the machine from the next. Process ids mean nothing across boots."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"boot-{int(psutil.boot_time())}"


def process_started_at(pid: int) -> str | None:
    """When the process started, as text that compares equal for the same process only; None if it is gone.

    On Linux it is counted in clock ticks since the boot. A time of day would move with the machine's clock,
    and a living process would then look like another one that took its id.
    """
    if _BOOT_ID.exists():
        return _ticks_at_start(pid)
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def _ticks_at_start(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # Field 22, counted behind the name, which stands in parentheses and may hold spaces and more of them.
    return stat.rpartition(b")")[2].split()[19].decode("ascii")


def record_start(tx: Transaction, node: Node) -> None:
    """Store that this server started."""
    now = tx.now()
    tx.execute(
        nodes.insert(),
        {
            "id": node.id,
            "host": node.host,
            "boot_id": node.boot_id,
            "pid": node.pid,
            "version": __version__,
            "started_at": now,
            "heartbeat_at": now,
        },
    )
    tx.emit("system.node.started", node.id, {"host": node.host, "pid": node.pid, "version": __version__})


def record_stop(tx: Transaction, node: Node) -> None:
    """Store that this server stopped in good order."""
    tx.execute(nodes.update().where(nodes.c.id == node.id).values(stopped_at=tx.now()))
    tx.emit("system.node.stopped", node.id)


class Heartbeat(Loop):
    """Says from time to time that this server is there. One that is killed says nothing any more."""

    def __init__(self, database: Database, node: Node) -> None:
        """`node` is stored by `record_start` before this loop starts."""
        super().__init__("node.heartbeat", interval_s=_HEARTBEAT_S)
        self._database = database
        self._node = node

    async def work(self) -> float | None:
        """Store the time."""
        await self._database.write(self._beat)
        return None

    def _beat(self, tx: Transaction) -> None:
        tx.execute(nodes.update().where(nodes.c.id == self._node.id).values(heartbeat_at=tx.now()))


def hosts_at_work(source: sa.Connection | Transaction, *, since: datetime) -> set[str]:
    """The machines with a server that has not stopped in good order and was heard of since then."""
    statement = sa.select(nodes.c.host).where(nodes.c.stopped_at.is_(None), nodes.c.heartbeat_at >= since)
    return set(source.execute(statement.distinct()).scalars())
