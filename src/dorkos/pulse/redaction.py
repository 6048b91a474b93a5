"""Keeping secrets out of what is stored of a run: their text is replaced, also where it comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dorkos.storable import clean_text

REDACTED = "[redacted]"
# A shorter value is found everywhere by chance, and replacing it would hide the output instead.
SECRET_MIN = 4


class Secrets:
    """The texts to replace. Where two begin at one place, the longer one is meant."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Those shorter than `SECRET_MIN` characters are not looked for."""
        known = {clean_text(text) for text in texts if len(text) >= SECRET_MIN}
        self._texts = sorted(known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._texts))) if self._texts else None

    @classmethod
    def named(cls, names: Iterable[str], *environments: Mapping[str, str]) -> Secrets:
        """The values that variables of these names have in any of the environments."""
        return cls(env[name] for name in names for env in environments if name in env)

    def hide(self, text: str) -> str:
        """A whole text without its secrets."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def part(self, text: str) -> tuple[str, str]:
        """What can be told of the beginning of a text that goes on, and the end that is still to be seen.

        The end is a piece that may be the beginning of a secret; it is shorter than the longest of them.
        """
        if self._pattern is None:
            return text, ""
        told, place, open_from = [], 0, self._open_from(text)
        for found in self._pattern.finditer(text):
            if found.start() >= open_from:
                break
            told += [text[place : found.start()], REDACTED]
            place = found.end()
        if place > open_from:
            # A secret reached into the end: only what is behind it may be the beginning of another.
            open_from = place + self._open_from(text[place:])
        return "".join(told) + text[place:open_from], text[open_from:]

    def _open_from(self, text: str) -> int:
        """Where the longest end of `text` begins that a secret could begin with."""
        longest = min(len(text), max(len(secret) for secret in self._texts) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(len(secret) > length and secret.startswith(end) for secret in self._texts):
                return len(text) - length
        return len(text)


class Redactor:
    """Redacts one stream of text as it comes."""

    def __init__(self, secrets: Secrets) -> None:
        """Begin with nothing held back."""
        self._secrets = secrets
        self._held = ""

    def take(self, text: str, *, end: bool) -> str:
        """What may be shown now; at the end, all that is left."""
        if end:
            shown, self._held = self._secrets.hide(self._held + text), ""
        else:
            shown, self._held = self._secrets.part(self._held + text)
        return shown
