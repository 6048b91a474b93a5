"""Messages that start runs, as an adapter: a switch.

The runs are started by `dorkos.relay.runs`, from the database alone. This adapter has nothing to connect to;
as long as one of its kind is switched off, no message starts a run.
"""

from __future__ import annotations

from dorkos.relay.adapters.model import Never, Outcome
from dorkos.relay.model import Delivery


class MessageRunsSwitch:
    """Is connected whenever it is on."""

    async def open(self) -> None:
        """Nothing to get ready."""

    async def receive(self) -> None:
        """Nothing comes this way."""

    async def send(self, delivery: Delivery) -> Outcome:
        """It has no mailbox."""
        return Never(f"Runs are started by the mailboxes of agents, not by sending {delivery.message.id}.")

    async def close(self) -> None:
        """Nothing to let go of."""
