"""`dorkos relay import` and `export` against a real server."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path

import pytest

from dorkos.relay.subjects import subject_hash
from tests.cli.conftest import Dorkos

_NUMBERS = count()


@pytest.fixture
def subject() -> str:
    """A mailbox that no other test uses."""
    return f"relay.human.mail{next(_NUMBERS)}"


def envelope(number: int, subject: str, **more: object) -> dict[str, object]:
    """A message as the files of the lineage have it."""
    return {
        "id": f"01JD8Q2M5W7ZC3K9VXN4T6BR{number:02d}",
        "subject": subject,
        "from": "relay.agent.a.one",
        "budget": {"hopCount": 1, "maxHops": 5, "ancestorChain": [], "ttl": 1_700_000_000_000},
        "createdAt": "2025-12-01T10:00:00.000Z",
        "payload": {"content": f"number {number}"},
        **more,
    }


def write(folder: Path, place: str, name: str, document: object) -> None:
    """A file of a mailbox."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / place / name).write_text(json.dumps(document), encoding="utf-8")


def inbox(dorkos: Dorkos, subject: str) -> dict[str, str]:
    """The text and status of each message of a mailbox, oldest first."""
    found = dorkos("relay", "inbox", subject, "--limit", "100", "--json").json["messages"]
    return {entry["payload"]["content"]: entry["status"] for entry in reversed(found)}


def test_new_waits_and_cur_was_delivered(dorkos: Dorkos, subject: str, tmp_path: Path) -> None:
    """The folder may have the mailbox's short name; a second time nothing comes in twice."""
    box = tmp_path / "mäil boxes" / subject_hash(subject)
    write(box, "cur", "01.json", envelope(1, subject))
    write(box, "new", "02.json", envelope(2, subject))
    write(box, "new", "03.json", envelope(3, subject, id="no ulid"))
    write(box, "failed", "04.json", envelope(4, subject))
    write(box, "failed", "04.reason.json", {"reason": "handler threw"})
    write(box, "tmp", "05.json", envelope(5, subject))
    first, second = (dorkos("relay", "import", str(box.parent), "--json") for _ in range(2))
    assert (first.code, first.json["imported"], first.json["present"]) == (0, 4, 0)
    assert (second.code, second.json["imported"], second.json["present"]) == (0, 0, 4)
    assert inbox(dorkos, subject) == {
        "number 1": "delivered",
        "number 2": "pending",
        "number 3": "pending",
        "number 4": "failed",
    }
    letters = dorkos("relay", "dead-letters", "--json").json
    assert "handler threw" in next(each["detail"] for each in letters if each["endpointHash"] == box.name)
    (oldest, *_) = reversed(dorkos("relay", "inbox", subject, "--json").json["messages"])
    assert oldest["createdAt"] == "2025-12-01T10:00:00.000Z"
    assert oldest["from"] == "relay.system.import"
    assert oldest["replyTo"] == "relay.agent.a.one"
    # An expiry that is over does not end what is brought over to be read.
    assert len(dorkos("relay", "claim", subject, "--limit", "10", "--json").json["deliveries"]) == 2
    assert (box / "new" / "02.json").exists()


def test_files_that_are_no_message_are_told_and_left_out(
    dorkos: Dorkos, subject: str, tmp_path: Path
) -> None:
    """The others come in, and the exit code is 1. Nothing is followed and nothing waited for."""
    box = tmp_path / subject
    write(box, "new", "1.json", envelope(11, subject))
    (box / "new" / "2.json").write_text("{", encoding="utf-8")
    (box / "new" / "3.json").write_bytes(b'"\xff"')
    os.mkfifo(box / "new" / "4.json")
    (box / "new" / "5.json").symlink_to("1.json")
    (box / "new" / "6.json").write_text('"\\u0000"', encoding="utf-8")
    (box / "new" / "7.json").write_text("[" * 150 + "]" * 150, encoding="utf-8")
    write(box, "new", "75.json", "x" * 3_000_000)
    write(box, "new", "8.json", envelope(18, subject))
    done = dorkos("relay", "import", str(tmp_path))
    assert done.code == 1
    for number in (*range(2, 8), 75):
        assert f"{number}.json" in done.err
    assert inbox(dorkos, subject) == {"number 11": "pending", "number 18": "pending"}


def test_what_is_exported_comes_in_again_as_it_was(dorkos: Dorkos, subject: str, tmp_path: Path) -> None:
    """Into another mailbox here, as on another server; what was acknowledged since is moved by the next."""
    dorkos("relay", "open", subject)
    for number in range(3):
        dorkos("relay", "send", subject, "--json-payload", json.dumps({"content": f"text {number} ☕"}))
    claimed = dorkos("relay", "claim", subject, "--json").json["deliveries"][0]
    folder = tmp_path / "cöpy"
    assert dorkos("relay", "export", str(folder), subject, "--json").json["messages"] == 3
    assert len(list((folder / subject / "new").iterdir())) == 3
    dorkos("relay", "ack", subject, claimed["messageId"], claimed["leaseToken"])
    assert dorkos("relay", "export", str(folder), subject).code == 0
    assert [path.stem for path in (folder / subject / "cur").iterdir()] == [claimed["messageId"]]
    assert len(list((folder / subject / "new").iterdir())) == 2
    assert list((folder / subject / "tmp").iterdir()) == []

    same = dorkos("relay", "import", str(folder), "--json").json
    assert (same["imported"], same["present"]) == (0, 3)
    other = f"{subject}-copy"
    done = dorkos("relay", "import", str(folder / subject), "--subject", other, "--json").json
    assert (done["imported"], done["present"], done["refused"]) == (3, 0, [])
    assert inbox(dorkos, other) == inbox(dorkos, subject)


def test_a_folder_without_mailboxes_is_misuse(dorkos: Dorkos, tmp_path: Path) -> None:
    """Nothing is opened for it."""
    for folder in (tmp_path, tmp_path / "none"):
        done = dorkos("relay", "import", str(folder), "--json")
        assert (done.code, done.json["code"]) == (2, "usage")


def test_a_folder_that_cannot_be_written_is_told(dorkos: Dorkos, subject: str, tmp_path: Path) -> None:
    """With what to do."""
    dorkos("relay", "open", subject)
    (tmp_path / "file").touch()
    done = dorkos("relay", "export", str(tmp_path / "file"), subject, "--json")
    assert done.json["code"] == "export_failed"
    assert dorkos("relay", "export", str(tmp_path / "out"), "relay.human.no-such").code == 3
    assert not (tmp_path / "out").exists()
