"""Denials: folders that must not be agents, with everything below them. A denial wins over everything."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.boundary import Boundary
from dorkos.db.advisory import Turn, take
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agent_denials
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.mesh import store
from dorkos.mesh.model import Agent, Denial, Mailboxes
from dorkos.mesh.patience import NoAnswerError, Patience
from dorkos.mesh.standing import put
from dorkos.storable import check_storable
from dorkos.vocabulary import AgentStatus


class DenialList:
    """The denied paths.

    A denial stops discovery and registration. Agents that are registered at or below the path stay, but
    are inactive until it is lifted: they are not run, what they send is refused, and what they are sent
    waits in their mailboxes.
    """

    def __init__(self, database: Database, boundary: Boundary, mailboxes: Mailboxes) -> None:
        """Keep the collaborators."""
        self._database = database
        self._boundary = boundary
        self._mailboxes = mailboxes
        self._disk = Patience[Path]()
        self._names = Patience[tuple[tuple[str, ...], DorkError | None]]()

    async def deny(
        self, path: str, *, reason: str | None, denier: str, actor: str, strategy: str = "manual"
    ) -> Denial:
        """Deny the real path of `path`, which need not exist, and everything below it.

        Denying again replaces reason, denier, strategy and time, and keeps the id.
        """
        real = str(await self._disk.require(path, partial(self._boundary.confine, path)))
        # A name may be sent in good order and lead, by a link, to one that cannot be stored.
        check_storable(real)
        fresh_id = new_id()

        def change(tx: Transaction) -> Denial:
            # Whoever registers or moves an agent here at the same time sees the denial, or is seen by it.
            take(tx, Turn.AGENTS_TAKE_PLACES)
            columns = {"reason": reason, "denier": denier, "strategy": strategy, "created_at": tx.now()}
            statement = (
                insert(agent_denials)
                .values(id=fresh_id, path=real, **columns)
                .on_conflict_do_update(index_elements=["path"], set_=columns)
                .returning(*agent_denials.c)
            )
            denial = _denial(tx.execute(statement).one())
            tx.emit("mesh.path.denied", denial.id, {"path": real, "reason": reason}, actor=actor)
            for agent in store.agents_below(tx, real):
                self._stand(tx, agent, AgentStatus.INACTIVE, f"{real} was denied.", actor)
            return denial

        return await self._database.write(change)

    async def clear(self, path: str, *, actor: str) -> None:
        """Lift the denial of exactly this path. Raises `outside_boundary` and `denial_not_found`.

        The path as the list shows it always works, whatever became of the folder and of the boundary since;
        else its real path counts, which has to be allowed.
        """
        check_storable(path)
        paths, refusal = await self._lifted_names(path)

        def change(tx: Transaction) -> None:
            take(tx, Turn.AGENTS_TAKE_PLACES)
            lifted = next((denial for name in paths if (denial := _delete(tx, name))), None)
            if lifted is None:
                raise refusal or DorkError(
                    ErrorCode.DENIAL_NOT_FOUND,
                    f"{path} is not denied.",
                    hint="The list of denied paths shows where each denial was made; lift it there.",
                )
            tx.emit("mesh.path.allowed", lifted.id, {"path": lifted.path}, actor=actor)
            for agent in store.agents_below(tx, lifted.path):
                if denial_over(tx, agent.project_path) is None:
                    # Whether it was away for long is seen at the next look at its folder.
                    away = agent.unreachable_since is not None
                    status = AgentStatus.UNREACHABLE if away else AgentStatus.ACTIVE
                    self._stand(tx, agent, status, f"The denial of {lifted.path} was lifted.", actor)

        await self._database.write(change)

    async def list(self) -> tuple[Denial, ...]:
        """All denials, newest first and by id among equals."""
        order = (agent_denials.c.created_at.desc(), agent_denials.c.id.desc())
        statement = sa.select(agent_denials).order_by(*order)
        return await self._database.read(
            lambda connection: tuple(_denial(row) for row in connection.execute(statement))
        )

    async def is_denied(self, path: str) -> bool:
        """Whether the path, or a folder above it, is denied."""
        real = await self._disk.require(path, partial(self._boundary.confine, path))
        return await self._database.read(lambda connection: denial_over(connection, real)) is not None

    def _stand(
        self, tx: Transaction, agent: Agent, status: AgentStatus, reason: str, actor: str | None
    ) -> None:
        put(
            tx,
            agent,
            status,
            agent.unreachable_since,
            mailboxes=self._mailboxes,
            reason=reason,
            actor=actor,
        )

    async def _lifted_names(self, path: str) -> tuple[tuple[str, ...], DorkError | None]:
        try:
            return await self._names.wait_for(path, partial(self._names_of, path))
        except NoAnswerError:
            return (_shown(path),), None  # As the list shows it, whatever its disk does.

    def _names_of(self, path: str) -> tuple[tuple[str, ...], DorkError | None]:
        """The names under which `path` may be denied, and why it is not allowed, if so. What the list shows
        can be lifted nevertheless: a folder may have been replaced by a link out of the boundary."""
        shown = _shown(path)
        try:
            return (shown, str(self._boundary.confine(path))), None
        except DorkError as refusal:
            return (shown,), refusal


def _shown(path: str) -> str:
    return os.path.normpath(path)


def denial_over(source: sa.Connection | Transaction, path: Path) -> Denial | None:
    """The denial nearest above a real path, itself included."""
    above = [str(path), *(str(parent) for parent in path.parents)]
    rows = source.execute(sa.select(agent_denials).where(agent_denials.c.path.in_(above)))
    return max((_denial(row) for row in rows), key=lambda denial: len(denial.path), default=None)


def denied_paths(source: sa.Connection | Transaction) -> set[str]:
    """All denied paths."""
    return set(source.execute(sa.select(agent_denials.c.path)).scalars())


def refuse_denied(tx: Transaction, path: Path) -> None:
    """Raise `path_denied` if the path or a folder above it is denied."""
    denial = denial_over(tx, path)
    if denial is None:
        return
    because = f" ({denial.reason})" if denial.reason else ""
    raise DorkError(
        ErrorCode.PATH_DENIED,
        f"{path} must not be registered: {denial.path} was denied by {denial.denier or 'unknown'}{because}.",
        hint=f"Lift the denial of {denial.path} first, if that is what you want.",
        details={"path": denial.path},
    )


def _delete(tx: Transaction, path: str) -> Denial | None:
    statement = sa.delete(agent_denials).where(agent_denials.c.path == path).returning(*agent_denials.c)
    row = tx.execute(statement).one_or_none()
    return None if row is None else _denial(row)


def _denial(row: sa.Row[Any]) -> Denial:
    return Denial(row.id, row.path, row.reason, row.denier, row.created_at, row.strategy or "manual")
