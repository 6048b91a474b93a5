"""Ids are ULIDs that strictly increase within a process."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dorkos.ids import UlidFactory, is_ulid, new_id


def test_ids_are_canonical_ulids() -> None:
    """26 characters of Crockford base 32."""
    assert is_ulid(new_id())


@pytest.mark.parametrize("text", ["", "0" * 25, "8" + "0" * 25, "0" * 25 + "U", "0" * 25 + "a", "x" * 26])
def test_other_texts_are_not_ulids(text: str) -> None:
    """Wrong length, too large a time, or a letter outside the alphabet."""
    assert not is_ulid(text)


def test_ids_strictly_increase_also_across_threads() -> None:
    """Each thread sees rising ids, and no id is given out twice."""
    factory = UlidFactory()
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda _: [factory.new() for _ in range(2000)], range(4)))

    assert all(batch == sorted(batch) for batch in batches)
    assert len({one for batch in batches for one in batch}) == 8000


def test_a_clock_that_jumps_back_does_not_make_smaller_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factory stays at the latest time it has seen."""
    factory = UlidFactory()
    first = factory.new()
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    assert factory.new() > first


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """What was drawn ahead is not used twice."""
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id()[10:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 16).decode()
    os.close(reading)
    os.close(writing)
    assert theirs != new_id()[10:]
