"""A folder to drop messages into: what lies in `<mailbox>/new` is published, then moved.

    <folder>/<mailbox>/new/<any name>    dropped by anybody who may write there
    <folder>/<mailbox>/cur/              what was delivered
    <folder>/<mailbox>/failed/           what was not, each with a `.reason.json` beside it

`<mailbox>` is a mailbox's subject, or its short name of 12 digits. Files are found by looking, once a second;
nothing depends on being told. A message is published once: the file is known again if the server dies before
it could be moved. Whoever writes there is nobody in particular, so it speaks as `relay.system.maildir`, and
who a file says it is from can only keep it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dorkos.clock import Clock, iso
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.relay import endpoints, payload
from dorkos.relay.adapters import store
from dorkos.relay.adapters.mail_files import Mail, UnreadableMailError, read_mail
from dorkos.relay.adapters.model import Adapter, Never, Outcome
from dorkos.relay.adapters.origin import check_origin
from dorkos.relay.model import Delivery, Envelope, Receipt
from dorkos.relay.service import RelayService
from dorkos.relay.subjects import is_subject, subject_hash
from dorkos.storable import check_storable
from dorkos.vocabulary import AdapterMarkKind

_LOOK_S = 1.0
# A file that cannot be understood yet may still be being written.
_GROWS_FOR_S = 2.0
_FILES_MAX = 200
# What an envelope may have around its payload.
_ENVELOPE_BYTES = 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TTL_MAX = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that was found. `identity` tells it from every other, also after a restart."""

    mailbox: str
    path: Path
    identity: str
    modified_at: float


class DropFolder:
    """Watches over a folder of mailboxes."""

    def __init__(
        self, adapter: Adapter, folder: Path, database: Database, clock: Clock, relay: RelayService
    ) -> None:
        """Nothing is looked at yet."""
        self._adapter = adapter
        self.folder = folder
        self._database = database
        self._clock = clock
        self._relay = relay
        self._published: deque[float] = deque()
        # What could not be moved away, which is told once and then passed over.
        self._stuck: set[str] = set()

    async def open(self) -> None:
        """See to it that the folder is there, readable by its owner alone if it is made here."""

        def make() -> None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.scandir(self.folder).close()

        await asyncio.to_thread(make)

    async def receive(self) -> None:
        """Look for files, for as long as it is not cancelled."""
        while True:
            for found in await asyncio.to_thread(dropped, self.folder):
                if found.identity in self._stuck:
                    continue
                if not self._may_go_on():
                    break
                await self.take(found)
            await asyncio.sleep(_LOOK_S)

    async def send(self, delivery: Delivery) -> Outcome:
        """It has no mailbox."""
        return Never(f"A drop folder only takes in, and does not send {delivery.message.id}.")

    async def close(self) -> None:
        """Nothing to let go of."""

    def _may_go_on(self) -> bool:
        """Whether another file may be taken now. The others wait where they lie: they are bound by no rate
        of a sender, so this is the brake on a program that drops a file for each that it gets."""
        settings, now = self._relay.settings, self._clock.monotonic()
        while self._published and self._published[0] <= now - 60 * settings.rate_window_minutes:
            self._published.popleft()
        return len(self._published) < settings.rate_limit

    async def take(self, found: Dropped) -> None:
        """Publish a file and move it; what cannot be a message is moved with the reason."""
        size_max = self._relay.settings.max_message_bytes + _ENVELOPE_BYTES
        try:
            mail = await asyncio.to_thread(read_mail, found.path, size_max=size_max)
            if mail.may_grow and _is_young(found):
                return
            receipt = await self._publish(found, mail)
        except FileNotFoundError:
            return  # Somebody else took it.
        except UnreadableMailError as fault:
            if fault.may_grow and _is_young(found):
                return
            await self._fail(found, str(fault))
            return
        except OSError as fault:
            await self._fail(found, f"it cannot be read: {fault.strerror or fault}")
            return
        except DorkError as refusal:
            if refusal.http_status >= 500:
                raise
            await self._fail(found, refusal.message)
            return
        self._published.append(self._clock.monotonic())
        if receipt is None or receipt.delivered_to:
            await self._move(found, "cur", None)
        else:
            why = "; ".join(each.detail or each.outcome.value for each in receipt.recipients)
            await self._move(found, "failed", {"reason": why, "messageId": receipt.message_id})

    async def _publish(self, found: Dropped, mail: Mail) -> Receipt | None:
        """Publish it; None if that was done before. Raises the refusals of a publish, and `forbidden`."""
        said = mail.payload if mail.has_payload else None
        encoded = payload.encode(said) if mail.has_payload else None
        message_id = new_id()
        check_storable([mail.sender, mail.reply_to, mail.subject])

        def change(tx: Transaction) -> Receipt | None:
            subject = _subject(tx, found.mailbox, mail.subject)
            if not store.mark(tx, self._adapter.id, AdapterMarkKind.RECEIVED, found.identity, message_id):
                return None
            claimed = mail.sender if mail.sender is not None and is_subject(mail.sender) else None
            check_origin(tx, self._relay.access, claimed, subject)
            envelope = Envelope(
                id=message_id,
                subject=subject,
                payload=encoded,
                reply_to=mail.reply_to or claimed,
                max_hops=mail.max_hops,
                expires_at=_instant(mail.ttl_ms),
                origin=mail.sender,
            )
            receipt = self._relay.publish_in(tx, self._adapter.caller, envelope)
            store.count(tx, self._adapter.id, inbound=1)
            return receipt

        return await self._database.write(change)

    async def _fail(self, found: Dropped, why: str) -> None:
        """Put a file aside, so that everybody can see that and why."""
        shown = os.fsencode(found.path.name).decode("utf-8", "replace")

        def change(tx: Transaction) -> None:
            store.count(tx, self._adapter.id, error=f"{found.mailbox}: {shown}: {why}")
            data = {"mailbox": found.mailbox, "file": shown, "detail": why}
            tx.emit("relay.adapter.refused", self._adapter.id, data)

        await self._database.write(change)
        await self._move(found, "failed", {"reason": why})

    async def _move(self, found: Dropped, folder: str, reason: dict[str, str] | None) -> None:
        now = iso(self._clock.now())
        try:
            await asyncio.to_thread(
                _moved, found, folder, None if reason is None else {**reason, "failedAt": now}
            )
        except OSError as fault:
            # It is published or told of already; taking it again would do nothing but fill the log.
            self._stuck.add(found.identity)
            why = f"{found.mailbox}: a file cannot be moved to `{folder}`: {fault.strerror or fault}"
            await self._database.write(lambda tx: store.count(tx, self._adapter.id, error=why))


def dropped(folder: Path) -> list[Dropped]:
    """What lies in the `new` of each mailbox, by name, up to a number of each. Follows no link."""
    found: list[Dropped] = []
    for mailbox in _folders(folder):
        new = folder / mailbox / "new"
        try:
            if not stat.S_ISDIR(new.lstat().st_mode):
                continue
            with os.scandir(new) as entries:
                names = sorted(entry.name for entry in entries if _is_whole(entry.name))
        except OSError:
            continue
        for name in names[:_FILES_MAX]:
            with contextlib.suppress(OSError):
                found.append(_dropped(mailbox, new / name))
    return found


def _is_young(found: Dropped) -> bool:
    """Whether a file was written just now. One of the future is as old as any other."""
    return 0 <= time.time() - found.modified_at < _GROWS_FOR_S


def _dropped(mailbox: str, path: Path) -> Dropped:
    there = path.lstat()
    facts = f"{mailbox}\0{there.st_dev}\0{there.st_ino}\0{there.st_mtime_ns}\0{there.st_size}"
    identity = hashlib.sha256(facts.encode() + os.fsencode(path.name)).hexdigest()
    return Dropped(mailbox, path, identity, there.st_mtime)


def _folders(folder: Path) -> list[str]:
    """The mailboxes: those whose names could be a mailbox's."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if is_subject(entry.name) and entry.is_dir(follow_symlinks=False)
        )


def _is_whole(name: str) -> bool:
    """Whether a file is meant to be read: names by which programs mark unfinished ones are passed over."""
    return not name.startswith(".") and not name.endswith((".tmp", ".part", "~"))


def _subject(tx: Transaction, mailbox: str, claimed: str | None) -> str:
    """Where a file goes: the folder decides, and what the file says must not differ."""
    named = endpoints.find_by_hash(tx, mailbox) or mailbox
    if claimed is None or claimed == named:
        return named
    if subject_hash(claimed) == mailbox:
        return claimed
    raise DorkError(
        ErrorCode.VALIDATION_FAILED,
        f"The file says that it goes to {claimed[:200]}, and lies in the mailbox {named}.",
        hint="Put it into the folder of that mailbox, or leave `subject` out.",
    )


def _instant(ttl_ms: int | None) -> datetime | None:
    if ttl_ms is None or ttl_ms > _TTL_MAX:
        return None
    return _EPOCH + timedelta(milliseconds=ttl_ms)


def _moved(found: Dropped, folder: str, reason: dict[str, str] | None) -> None:
    """Move a file beside `new`, under a name that is free there; a reason goes beside it, first."""
    there = found.path.parent.parent / folder
    there.mkdir(mode=0o700, exist_ok=True)
    target = _free(there, found.path.name)
    if reason is not None:
        text = json.dumps(reason, ensure_ascii=False, indent=2) + "\n"
        beside = there / f"{target.name}.reason.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
    found.path.rename(target)


def _free(folder: Path, name: str) -> Path:
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, ""
    number, target = 1, folder / name
    while os.path.lexists(target) or os.path.lexists(folder / f"{target.name}.reason.json"):
        number += 1
        target = folder / f"{stem}-{number}{dot}{ending}"
    return target
