"""Reading the mailboxes of the lineage: directories of JSON files, which are never moved or written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dorkos.db.legacy.home import parse_document
from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.values import plain_text
from dorkos.plain_file import read_file

MAILBOXES = "relay/mailboxes"
_ENDING = ".json"
_REASON_ENDING = ".reason.json"


class Folder(StrEnum):
    """Where in its mailbox a message lies. `tmp` holds unfinished writes, which are no messages."""

    NEW = "new"
    CUR = "cur"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MailFile:
    """One message file. The pair of mailbox and file id is its key: a refused message has one id everywhere.

    `reason` is the parsed file beside a failed one, None if there is none that can be read. `damaged` are
    the file's bytes where they are not UTF-8.
    """

    mailbox: str
    folder: Folder
    file_id: str
    envelope: dict[str, object]
    reason: dict[str, object] | None
    damaged: bytes | None

    @property
    def was_refused(self) -> bool:
        """Whether a failed message was refused when it was sent: only then its own id names the file."""
        return self.envelope.get("id", self.file_id) == self.file_id


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """What all mailboxes hold. `lost` are keys of files that could not be read, which were reported."""

    names: tuple[str, ...]
    files: tuple[MailFile, ...]
    lost: frozenset[tuple[str, str]]
    unfinished: int


def read_mailboxes(home: Path, report: Report) -> Mailboxes:
    """Read every mailbox of a home, in the order of names. What cannot be read is reported and left out."""
    reader = _Reader(home, report)
    names = tuple(entry.name for entry in reader.listing(home / MAILBOXES) if reader.is_folder(entry))
    files = tuple(file for name in names for file in reader.mailbox(name))
    return Mailboxes(names, files, frozenset(reader.lost), reader.unfinished)


class _Reader:
    def __init__(self, home: Path, report: Report) -> None:
        self._home = home
        self._report = report
        self.lost: set[tuple[str, str]] = set()
        self.unfinished = 0

    def mailbox(self, name: str) -> Iterator[MailFile]:
        place = self._home / MAILBOXES / name
        if plain_text(name) != name:
            self._report.note(f"{place}: the name of this mailbox is no text; a hash of it stands for it.")
        self.unfinished += sum(1 for entry in self.listing(place / "tmp") if entry.name.endswith(_ENDING))
        for folder in Folder:
            for file_id in self._file_ids(place / folder):
                self._report.found(MAILBOXES)
                found = self._message(name, folder, file_id)
                if found is None:
                    self.lost.add((name, file_id))
                else:
                    yield found

    def listing(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder by name; none if there is no such folder."""
        try:
            with os.scandir(folder) as entries:
                return sorted(
                    (entry for entry in entries if not entry.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except FileNotFoundError:
            return []
        except OSError as fault:
            refuse_mendable(folder, fault)
            self._unreadable(folder, fault.strerror or str(fault))
            return []

    def is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether it may be a mailbox. A link that leads nowhere may have been one, which is reported."""
        path = Path(entry.path)
        try:
            if entry.is_dir():
                return True
            if not entry.is_symlink():
                return False  # A file beside the mailboxes was never one.
            path.stat()
        except OSError as fault:
            refuse_mendable(path, fault)
            self._unreadable(path, fault.strerror or str(fault))
        return False

    def _file_ids(self, folder: Path) -> list[str]:
        """Every message of a folder, also one of which only the file with the reason is left."""
        found: dict[str, None] = {}
        for entry in self.listing(folder):
            if not entry.name.endswith(_ENDING):
                continue
            is_reason = folder.name == Folder.FAILED and entry.name.endswith(_REASON_ENDING)
            found[entry.name.removesuffix(_REASON_ENDING if is_reason else _ENDING)] = None
        return list(found)

    def _message(self, name: str, folder: Folder, file_id: str) -> MailFile | None:
        place = self._home / MAILBOXES / name / folder
        reason: dict[str, object] | None = None
        if folder is Folder.FAILED:
            path = place / f"{file_id}{_REASON_ENDING}"
            reason, _, fault = _object_in(path)
            if fault is not None and os.path.lexists(path):
                self._unreadable(path, fault)
        path = place / f"{file_id}{_ENDING}"
        envelope, damaged, fault = _object_in(path)
        if envelope is not None and not isinstance(envelope.get("subject"), str):
            envelope, fault = None, "it is no message: it names no subject"
        if envelope is None:
            # A dead letter's envelope is written twice: the file with the reason repeats it.
            repeated = None if reason is None else reason.get("envelope")
            if not isinstance(repeated, dict) or not isinstance(repeated.get("subject"), str):
                self._unreadable(path, fault or "it is no message")
                return None
            self._report.note(f"{path}: {fault}; the message was read from the file with its reason.")
            envelope, damaged = repeated, None
        return MailFile(name, folder, file_id, envelope, reason, damaged)

    def _unreadable(self, path: Path, why: str) -> None:
        self._report.unreadable(MAILBOXES, str(path), why)


def _object_in(path: Path) -> tuple[dict[str, object] | None, bytes | None, str | None]:
    """The JSON object in a file, its bytes if they are not UTF-8, and what is wrong with the file."""
    try:
        # Never waits for a FIFO of such a name.
        stored = read_file(path)
        value = parse_document(stored)
    except OSError as fault:
        refuse_mendable(path, fault)
        return None, None, fault.strerror or str(fault)
    except ValueError as fault:
        return None, None, f"not JSON: {fault}"
    if not isinstance(value, dict):
        return None, None, "it is JSON, but no object"
    return value, None if _is_utf8(stored) else stored, None


def _is_utf8(stored: bytes) -> bool:
    try:
        stored.decode()
    except UnicodeDecodeError:
        return False
    return True
