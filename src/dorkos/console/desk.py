"""How pages get their data: by the operations that REST serves, with their scopes and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from dorkos.clock import Clock
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.operation import Operation
from dorkos.server.inputs import from_query
from dorkos.storable import check_storable


class Desk:
    """Asks operations by name. The answer is what REST would write, as Python values."""

    def __init__(
        self,
        operations: Sequence[Operation[Any, Any, Any]],
        parts: Mapping[str, object],
        *,
        feed: EventFeed,
        clock: Clock,
    ) -> None:
        """`parts` holds the subsystems by the names that operations give them."""
        self._named = {operation.name: operation for operation in operations}
        self._parts = parts
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self.feed = feed
        self.clock = clock

    def knows(self, name: str) -> bool:
        """Whether this server has an operation of that name."""
        return name in self._named

    async def ask(self, caller: Caller, name: str, given: Mapping[str, object] | None = None) -> Any:
        """The answer to `name`, with its input by wire names. Raises what the operation refuses."""
        operation = self._named.get(name)
        if operation is None:
            raise DorkError(
                ErrorCode.NOT_FOUND,
                f"This server does not know {name}.",
                hint="Without that part it has no console; `dorkos up` starts one that has.",
            )
        caller.require(operation.scope)
        check_storable(given)  # Here, so that the form can be shown again with what was typed.
        asked = from_query(operation.input, given or {})
        found = await operation.handler(self._parts[operation.part], caller, asked)
        adapter = self._adapters.get(name)
        if adapter is None:
            adapter = self._adapters[name] = TypeAdapter(operation.answer)
        return adapter.dump_python(found, mode="json", by_alias=True)
