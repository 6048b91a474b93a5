"""`dorkos relay import` and `dorkos relay export`: whole mailboxes from files and into files."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.options import options_of
from dorkos.cli.render import notice, say, show
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.adapters.mail_files import Mail, UnreadableMailError, read_mail
from dorkos.storable import check_storable

if TYPE_CHECKING:
    from dorkos.cli.client import Client

_ENDPOINTS = "/api/relay/endpoints"
_STATUS_OF = {"new": "pending", "cur": "delivered", "failed": "failed"}
_FOLDER_OF = {status: folder for folder, status in _STATUS_OF.items()}
_SHORT_NAME = re.compile(r"[0-9a-f]{12}")
_REASON = ".reason.json"
_FILE_BYTES_MAX = 64 * 1024 * 1024
_BATCH_MESSAGES = 100
_BATCH_BYTES = 512 * 1024

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Mailboxes, or one mailbox.")]


def import_mail(
    context: typer.Context,
    folder: FolderArgument,
    *,
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="The mailbox, if FOLDER is one and does not say.")
    ] = None,
) -> None:
    """Bring mailboxes over from files: `new` waits, `cur` was delivered, `failed` is a dead letter.

    The files stay as they are, and doing it again brings nothing twice. What waits
    is published by relay.system.import, so runs start for it; who a file says it
    is from is kept as data. A mailbox that does not exist is opened. The exit code
    is 1 if a file was left out.

    Example:

        dorkos relay import old/mailboxes
    """
    options = options_of(context)
    total: dict[str, Any] = {"imported": 0, "present": 0, "refused": [], "mailboxes": []}
    with connect(options) as client:
        known = {row["hash"]: row["subject"] for row in client.get(_ENDPOINTS, includeClosed="true")}
        for place in _mailboxes(folder):
            target = subject or _subject_of(place, known)
            _import_one(client, place, target, total)
    show(options, total, _told_import)
    if total["refused"]:
        raise typer.Exit(1)


def export_mail(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; made if it is not there.")],
    subjects: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SUBJECT]...", help="Which mailboxes; else all."),
    ] = None,
) -> None:
    """Write mailboxes into files, which `dorkos relay import` reads. Nothing is taken out of them.

    Each mailbox becomes a folder with `new` (waiting), `cur` (delivered) and
    `failed`, each message a JSON file named by its id. Doing it again adds what is
    new, and moves what has been delivered since.

    Example:

        dorkos relay export copy relay.human.ada
    """
    options = options_of(context)
    total: dict[str, Any] = {"messages": 0, "mailboxes": []}
    with connect(options) as client:
        for subject in subjects or [row["subject"] for row in client.get(_ENDPOINTS)]:
            total["messages"] += _export_one(client, folder / subject, subject)
            total["mailboxes"].append(subject)
    show(
        options,
        total,
        lambda done: say(
            f"{done['messages']} messages of {len(done['mailboxes'])} mailboxes are in {folder}."
        ),
    )


def _mailboxes(folder: Path) -> list[Path]:
    """The folders that are mailboxes: this one, or those in it."""
    try:
        if any((folder / part).is_dir() for part in _STATUS_OF):
            return [folder]
        found = sorted(
            each for each in folder.iterdir() if any((each / part).is_dir() for part in _STATUS_OF)
        )
    except OSError as fault:
        raise DorkError(
            ErrorCode.USAGE,
            f"{folder} cannot be read: {fault.strerror or fault}.",
            hint="Name a folder of mailboxes.",
        ) from fault
    if not found:
        raise DorkError(
            ErrorCode.USAGE,
            f"{folder} holds no mailbox: no folder with `new`, `cur` or `failed`.",
            hint="Name the folder that holds them, or one of them.",
        )
    return found


def _subject_of(place: Path, known: dict[str, str]) -> str:
    """The mailbox that a folder is: by its name, its short name, or what its first message says."""
    name = place.resolve().name
    if not _SHORT_NAME.fullmatch(name):
        return name
    if name in known:
        return known[name]
    for _, mail, _ in _mail_in(place):
        if isinstance(mail, Mail) and mail.subject is not None:
            return mail.subject
    raise DorkError(
        ErrorCode.USAGE,
        f"Nothing in {place} says which mailbox it is.",
        hint="Name it with --subject SUBJECT.",
    )


def _mail_in(place: Path) -> Iterator[tuple[str, Mail | str, Path]]:
    """Each file with its status: the message, or why it is none. In the order of names."""
    for folder, status in _STATUS_OF.items():
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted((place / folder).iterdir()):
                if path.name.startswith(".") or path.name.endswith(_REASON):
                    continue
                try:
                    yield status, read_mail(path, size_max=_FILE_BYTES_MAX), path
                except UnreadableMailError as fault:
                    yield status, str(fault), path
                except OSError as fault:
                    yield status, f"it cannot be read: {fault.strerror or fault}", path


def _import_one(client: Client, place: Path, subject: str, total: dict[str, Any]) -> None:
    _open(client, subject)
    batch: list[dict[str, Any]] = []
    size = 0

    def send() -> None:
        if batch:
            try:
                answer = client.post(address(_ENDPOINTS, subject, "import"), {"messages": batch}, wait_s=60)
            except DorkError as refusal:
                if refusal.code is not ErrorCode.BODY_TOO_LARGE:
                    raise
                # Only one that is alone makes a batch that large.
                reasons = [{"name": row["name"], "reason": refusal.message} for row in batch]
                answer = {"imported": 0, "present": 0, "refused": reasons}
            total["imported"] += answer["imported"]
            total["present"] += answer["present"]
            total["refused"] += [{"mailbox": subject, **each} for each in answer["refused"]]
            batch.clear()

    for status, mail, path in _mail_in(place):
        shown = _shown_name(path)
        if isinstance(mail, str):
            total["refused"].append({"mailbox": subject, "name": shown, "reason": mail})
            continue
        row = _row(mail, status, shown, path)
        try:
            check_storable(row)
        except DorkError as refusal:
            total["refused"].append({"mailbox": subject, "name": shown, "reason": refusal.message})
            continue
        cost = len(json.dumps(row))
        if len(batch) >= _BATCH_MESSAGES or (batch and size + cost > _BATCH_BYTES):
            send()
            size = 0
        batch.append(row)
        size += cost
    send()
    total["mailboxes"].append(subject)


def _row(mail: Mail, status: str, name: str, path: Path) -> dict[str, Any]:
    """What is said of one message. What the file does not say is left out."""
    row = {
        "name": name,
        "status": status,
        "id": mail.id,
        "from": mail.sender,
        "replyTo": mail.reply_to,
        "createdAt": mail.created_at,
        "ttl": mail.ttl_ms,
        "reason": _reason_beside(path) if status == "failed" else None,
    }
    row = {key: value for key, value in row.items() if value is not None}
    return row | ({"payload": mail.payload} if mail.has_payload else {})


def _reason_beside(path: Path) -> str | None:
    """Why a message failed, by the file beside it."""
    for beside in (path.with_name(f"{path.name}{_REASON}"), path.with_name(f"{path.stem}{_REASON}")):
        with suppress(OSError, UnreadableMailError):
            said = read_mail(beside, size_max=_FILE_BYTES_MAX).payload
            if isinstance(said, dict) and isinstance(said.get("reason"), str):
                return str(said["reason"])
    return None


def _open(client: Client, subject: str) -> None:
    try:
        client.post(_ENDPOINTS, {"subject": subject})
    except DorkError as refusal:
        # An agent's is opened by registering it; whether it is open, the import itself finds out.
        if refusal.code not in (ErrorCode.ENDPOINT_EXISTS, ErrorCode.VALIDATION_FAILED):
            raise


def _shown_name(path: Path) -> str:
    return os.fsencode(path.name).decode("utf-8", "replace")[:1000]


def _told_import(total: Any) -> None:
    say(f"{total['imported']} messages came in, {total['present']} were there already.")
    for each in total["refused"]:
        notice(f"Left out: {each['mailbox']}: {each['name']}: {each['reason']}")


def _export_one(client: Client, place: Path, subject: str) -> int:
    reasons: dict[str, str] = {}
    count = 0
    inbox = address(_ENDPOINTS, subject, "inbox")
    # Asked for before anything is made: there may be no such mailbox.
    page = client.get(inbox, limit=100)
    try:
        for folder in ("tmp", *_STATUS_OF):
            (place / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            for entry in page["messages"]:
                if entry["status"] == "failed" and not reasons:
                    reasons = _reasons(client, entry["endpointHash"])
                _write(place, subject, entry, reasons.get(entry["id"]))
                count += 1
            cursor = page.get("nextCursor")
            if cursor is None:
                return count
            page = client.get(inbox, limit=100, cursor=cursor)
    except OSError as fault:
        raise DorkError(
            ErrorCode.EXPORT_FAILED,
            f"{place} cannot be written: {fault.strerror or fault}.",
            hint="Free space or correct the mode, and call it again: it goes on where it was.",
        ) from fault


def _reasons(client: Client, endpoint_hash: str) -> dict[str, str]:
    """Why messages of a mailbox stopped, by their ids."""
    found: dict[str, str] = {}
    cursor = None
    while True:
        page = client.get("/api/relay/dead-letters", endpointHash=endpoint_hash, limit=100, cursor=cursor)
        for letter in page:
            found.setdefault(letter["messageId"], f"{letter['reason']}: {letter['detail']}")
        if len(page) < 100:
            return found
        cursor = page[-1]["id"]


def _write(place: Path, subject: str, entry: Any, reason: str | None) -> None:
    """Put a message where its status says; one that lies elsewhere from before is moved."""
    name = f"{entry['id']}.json"
    target = place / _FOLDER_OF[entry["status"]] / name
    before = next((place / folder / name for folder in _STATUS_OF if (place / folder / name).exists()), None)
    if before is not None and before != target:
        before.rename(target)
    if before is None:
        envelope = {
            key: entry[key]
            for key in ("id", "from", "replyTo", "budget", "createdAt", "payload")
            if key in entry
        }
        _write_whole(place / "tmp", target, {"subject": subject, **envelope})
    if reason is not None:
        beside = target.with_name(f"{entry['id']}{_REASON}")
        if not beside.exists():
            _write_whole(place / "tmp", beside, {"reason": reason})


def _write_whole(scratch: Path, target: Path, document: object) -> None:
    """A file that is there whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=scratch)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=True, indent=2)
        file.flush()
        os.fsync(descriptor)
    Path(name).rename(target)
