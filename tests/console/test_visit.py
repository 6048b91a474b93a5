"""What a page may take for gone, and what it must not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dorkos.console.desk import Desk
from dorkos.console.visit import Visit
from dorkos.errors import DorkError, ErrorCode


class Answering:
    """Stands where the operations stand: answers each with what it was made with."""

    def __init__(self, answer: object) -> None:
        """An exception is raised."""
        self.asked: list[tuple[str, object]] = []
        self._answer = answer

    async def ask(self, _caller: object, name: str, given: object) -> object:
        """Note the question."""
        self.asked.append((name, given))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def visit_to(desk: Answering) -> Visit:
    """A visit that has nothing but somebody to ask."""
    visit = cast(Any, object.__new__(Visit))
    object.__setattr__(visit, "desk", cast(Desk, desk))
    object.__setattr__(visit, "caller", None)
    return cast(Visit, visit)


async def test_what_is_there_is_found_by_its_id() -> None:
    """By the operation that shows one; without an id nobody is asked."""
    desk = Answering({"name": "scout"})
    assert await visit_to(desk).find("mesh.get", "A") == {"name": "scout"}
    assert await visit_to(desk).find("mesh.get", None) is None
    assert desk.asked == [("mesh.get", {"id": "A"})]


@pytest.mark.parametrize("code", [ErrorCode.AGENT_NOT_FOUND, ErrorCode.VALIDATION_FAILED])
async def test_what_was_removed_is_nothing(code: ErrorCode) -> None:
    """As is an id that can be none of its kind."""
    assert await visit_to(Answering(DorkError(code, "No."))).find("mesh.get", "A") is None


@pytest.mark.parametrize("code", [ErrorCode.DATABASE_BUSY, ErrorCode.FORBIDDEN])
async def test_what_cannot_be_read_at_the_moment_is_not_taken_for_removed(code: ErrorCode) -> None:
    """The page says so instead of showing that there is nothing."""
    with pytest.raises(DorkError) as refusal:
        await visit_to(Answering(DorkError(code, "No."))).find("mesh.get", "A")
    assert refusal.value.code is code
