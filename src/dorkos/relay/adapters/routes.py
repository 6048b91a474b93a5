"""Where adapters listen: in which of their mailboxes a message is put besides that of its subject."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.relay.adapters import store
from dorkos.relay.adapters.configs import patterns_of, sends
from dorkos.relay.model import Message
from dorkos.relay.subjects import matches

_KNOWN_MAX = 4096
# Who brings over mailboxes from files.
IMPORTER = "relay.system.import"


class AdapterRoutes:
    """The port that publishing asks. Thread-safe.

    What adapters there are is kept in memory: a server that changed them looks again at once, another within
    about a second. In between a message may miss an adapter that is just being added, and no more than that.
    """

    def __init__(self) -> None:
        """Nothing is read before the first message."""
        self._known: _Known | None = None
        self._generation = 0

    def also(self, tx: Transaction, message: Message, /) -> Sequence[str]:
        """The mailboxes of the adapters that listen to the message's subject.

        Without the one that has this subject, and without that of the adapter it came in by: no echo. What is
        brought over from files has gone out where it came from, and does not go out again.
        """
        if message.sender == IMPORTER:
            return ()
        known = self._known
        if known is None:
            generation = self._generation
            known = _Known(tx)
            # What was read while they changed must not be kept.
            if generation == self._generation:
                self._known = known
        found = known.also(message.subject)
        return [each for each in found if each != message.sender] if message.sender in found else found

    def forget(self) -> None:
        """Look again before the next message."""
        self._generation += 1
        self._known = None


class _Known:
    def __init__(self, source: sa.Connection | Transaction) -> None:
        self._listening = tuple(
            (pattern, adapter.subject)
            for adapter in store.enabled(source)
            if sends(adapter)
            for pattern in patterns_of(adapter)
        )
        self._found: dict[str, tuple[str, ...]] = {}

    def also(self, subject: str) -> tuple[str, ...]:
        if not self._listening:
            return ()
        found = self._found.get(subject)
        if found is None:
            if len(self._found) >= _KNOWN_MAX:
                self._found.clear()
            mailboxes = (mailbox for pattern, mailbox in self._listening if matches(subject, pattern))
            found = tuple(dict.fromkeys(each for each in mailboxes if each != subject))
            self._found[subject] = found
        return found
