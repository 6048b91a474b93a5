"""Finding which of many patterns stand for a subject, in the time of its tokens and not of the patterns."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class PatternTrie(Generic[T]):
    """Values under patterns. It answers as `subjects.matches` would for each pattern by itself."""

    def __init__(self) -> None:
        """Begin with none."""
        self._below: dict[str, PatternTrie[T]] = {}
        self._here: list[T] = []
        # Under a last `>`: whatever has at least one token more.
        self._rest: list[T] = []

    def add(self, pattern: str, value: T) -> None:
        """Put a value under a pattern; several may stand under one."""
        node = self
        for token in pattern.split("."):
            if token == ">":
                node._rest.append(value)  # Another node of the same trie.
                return
            node = node._below.setdefault(token, PatternTrie())  # As above.
        node._here.append(value)  # noqa: SLF001  # As above.

    def find(self, subject: str) -> list[T]:
        """The values of all patterns that stand for `subject`, in no particular order."""
        found: list[T] = []
        nodes = [self]
        for token in subject.split(".") if subject else ():
            below: list[PatternTrie[T]] = []
            for node in nodes:
                found += node._rest  # noqa: SLF001  # As above.
                # A wildcard in a subject is plain text, and must not count twice.
                for key in dict.fromkeys((token, "*")):
                    child = node._below.get(key)  # noqa: SLF001  # As above.
                    if child is not None:
                        below.append(child)
            nodes = below
        for node in nodes:
            found += node._here  # noqa: SLF001  # As above.
        return found
