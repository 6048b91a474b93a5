"""What people do with dead letters."""

from __future__ import annotations

from functools import partial

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.relay import deadletters, removal
from dorkos.relay.access import AccessControl
from dorkos.relay.model import DeadLetter, LetterFilter
from dorkos.relay.redrive import Redriven, redrive
from dorkos.relay.removal import Removed
from dorkos.setting_groups.relay import RelaySettings


class DeadLetters:
    """Lists, shows, puts back and takes away messages that stopped."""

    def __init__(self, database: Database, settings: RelaySettings, access: AccessControl) -> None:
        """`access` decides anew about what is put back."""
        self._database = database
        self._settings = settings
        self._access = access

    async def newest_first(self, which: LetterFilter, *, limit: int) -> list[DeadLetter]:
        """Dead letters with their messages."""
        return await self._database.read(
            lambda connection: deadletters.newest_first(connection, which, limit=limit)
        )

    async def get(self, letter_id: str) -> DeadLetter:
        """One dead letter. Raises `dead_letter_not_found`."""
        return await self._database.read(lambda connection: deadletters.get(connection, letter_id))

    async def redrive(self, caller: Caller, letter_id: str) -> Redriven:
        """Put one back into its mailbox. See `redrive.redrive`."""
        return await self._database.write(partial(self._redrive, letter_id=letter_id, caller=caller))

    async def redrive_all(self, caller: Caller, which: LetterFilter, *, limit: int) -> list[Redriven]:
        """Put up to `limit` back, the oldest first, each in a change of its own. One that somebody else takes
        away meanwhile is left out."""
        found = await self._database.read(
            lambda connection: deadletters.oldest_ids(connection, which, limit=limit)
        )
        done = []
        for each in found:
            try:
                done.append(await self.redrive(caller, each))
            except DorkError as refusal:
                if refusal.code is not ErrorCode.DEAD_LETTER_NOT_FOUND:
                    raise
        return done

    async def purge(self, caller: Caller, letter_id: str) -> Removed:
        """Take one away for good, and its message if nothing else is known of it.

        Raises `dead_letter_not_found`.
        """

        def change(tx: Transaction) -> Removed:
            deadletters.get(tx, letter_id)
            return removal.remove_letters(tx, [letter_id], cause="purge", actor=caller.subject)

        return await self._database.write(change)

    async def purge_all(self, caller: Caller, which: LetterFilter, *, limit: int) -> int:
        """Take up to `limit` away, the oldest first, in short changes; how many went."""
        gone = 0
        while gone < limit:
            most = min(removal.CHUNK, limit - gone)
            removed = await self._database.write(
                partial(_purge, which=which, most=most, actor=caller.subject)
            )
            gone += removed
            if removed < most:
                break
        return gone

    def _redrive(self, tx: Transaction, letter_id: str, caller: Caller) -> Redriven:
        return redrive(tx, letter_id, caller, self._settings, self._access)


def _purge(tx: Transaction, which: LetterFilter, most: int, actor: str) -> int:
    ids = deadletters.oldest_ids(tx, which, limit=most)
    return removal.remove_letters(tx, ids, cause="purge", actor=actor).letters if ids else 0
