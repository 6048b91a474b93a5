"""What the clients were promised: one JSON object a line of a file, in the order of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One answer that a client got.

    `asked` is the number of entries that stood in the log when the request was sent: an answer that was on
    its way for long says nothing about what was answered to others meanwhile.
    """

    what: str
    subject: str
    note: str = ""
    asked: int = 0


class ClientLog:
    """Appends entries. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Begin the file anew."""
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8")
        self.length = 0

    def add(self, entry: Entry) -> None:
        """The line is written before this returns."""
        with self._lock:
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()
            self.length += 1

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()


def entries(path: Path) -> Iterator[Entry]:
    """The log again."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Entry(**json.loads(line))
