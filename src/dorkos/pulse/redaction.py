"""Keeping secrets out of what is stored of a run: their text is replaced, also where it comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dorkos.storable import clean_text

REDACTED = "[redacted]"
# A shorter value is found everywhere by chance, and replacing it would hide the output instead.
SECRET_MIN = 4


# What a `*` at the end of a pattern stands for: that many characters of a token, or more.
_TOKEN = r"[A-Za-z0-9_\-.+/=~]"
SHAPE_MIN = 8
_TOKEN_START = re.compile(f"{_TOKEN}*")


class Secrets:
    """The texts to replace. Where two begin at one place, the longer one is meant.

    A shape is the beginning of secrets such as `sk-`: it goes on for `SHAPE_MIN` or more characters of a
    token, all of which are replaced with it.
    """

    def __init__(self, texts: Iterable[str], *, shapes: Iterable[str] = ()) -> None:
        """Texts shorter than `SECRET_MIN` characters are not looked for."""
        known = {clean_text(text) for text in texts if len(text) >= SECRET_MIN}
        self._texts = sorted(known, key=len, reverse=True)
        self._shapes = sorted({clean_text(shape) for shape in shapes}, key=len, reverse=True)
        lengths = [len(text) - 1 for text in self._texts]
        lengths += [len(shape) + SHAPE_MIN - 1 for shape in self._shapes]
        self._longest = max(lengths, default=0)
        whole = [re.escape(text) for text in self._texts]
        # Named, so that a match tells whether the secret may go on behind it.
        whole += [f"(?P<shape{n}>{re.escape(s)}{_TOKEN}{{{SHAPE_MIN},}})" for n, s in enumerate(self._shapes)]
        self._pattern = re.compile("|".join(whole)) if whole else None

    @classmethod
    def named(
        cls, names: Iterable[str], *environments: Mapping[str, str], patterns: Iterable[str] = ()
    ) -> Secrets:
        """The values that variables of these names have in any of the environments, and what patterns say.

        A pattern is a text, or a shape with a `*` behind it.
        """
        values = [env[name] for name in names for env in environments if name in env]
        written = list(patterns)
        return cls(
            [*values, *(text for text in written if not text.endswith("*"))],
            shapes=[text[:-1] for text in written if text.endswith("*")],
        )

    def hide(self, text: str) -> str:
        """A whole text without its secrets."""
        return self._pattern.sub(REDACTED, text) if self._pattern and self._may_hold(text) else text

    def part(self, text: str) -> Parted:
        """Tell as much of the beginning of a text that goes on as can be told."""
        if self._pattern is None:
            return Parted(text, "", goes_on=False)
        told, place, open_from, goes_on = [], 0, self._open_from(text), False
        for found in self._pattern.finditer(text) if self._may_hold(text) else ():
            if found.start() >= open_from:
                break
            told += [text[place : found.start()], REDACTED]
            place = found.end()
            goes_on = place == len(text) and found.lastgroup is not None
        if place > open_from:
            # A secret reached into the end: only what is behind it may be the beginning of another.
            open_from = place + self._open_from(text[place:])
        return Parted("".join(told) + text[place:open_from], text[open_from:], goes_on=goes_on)

    def _may_hold(self, text: str) -> bool:
        # Looking for a fixed text is twenty times as fast as the pattern, and most output holds no secret.
        return any(begin in text for begin in (*self._texts, *self._shapes))

    def _open_from(self, text: str) -> int:
        """Where the longest end of `text` begins that a secret could begin with."""
        for length in range(min(len(text), self._longest), 0, -1):
            end = text[-length:]
            if any(len(secret) > length and secret.startswith(end) for secret in self._texts):
                return len(text) - length
            if any(_begins(end, shape) for shape in self._shapes):
                return len(text) - length
        return len(text)


@dataclass(frozen=True, slots=True)
class Parted:
    """What can be told of a text so far, and the end of it that may be the beginning of a secret.

    `goes_on`: a secret that was replaced reached to the end of the text, and may go on behind it.
    """

    told: str
    held: str
    goes_on: bool


def _begins(end: str, shape: str) -> bool:
    """Whether a secret of this shape could begin with `end` without being one yet."""
    if len(end) >= len(shape) + SHAPE_MIN:
        return False
    if len(end) <= len(shape):
        return shape.startswith(end)
    rest = end[len(shape) :]
    return end.startswith(shape) and _TOKEN_START.fullmatch(rest) is not None


class Redactor:
    """Redacts one stream of text as it comes."""

    def __init__(self, secrets: Secrets) -> None:
        """Begin with nothing held back."""
        self._secrets = secrets
        self._held = ""
        self._goes_on = False

    def take(self, text: str, *, end: bool) -> str:
        """What may be shown now; at the end, all that is left."""
        if self._goes_on:
            rest = _TOKEN_START.sub("", text, count=1)
            self._goes_on = not rest
            text = rest
        if end:
            shown, self._held = self._secrets.hide(self._held + text), ""
            return shown
        if self._goes_on:
            return ""
        parted = self._secrets.part(self._held + text)
        self._held, self._goes_on = parted.held, parted.goes_on
        return parted.told
