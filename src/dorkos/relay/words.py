"""The words by which a message is found: the same on every engine, because they are made here.

Letters and digits in any script, without case and in one form (NFKC); everything else parts words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

# What is looked at of a message's text, in bytes.
TEXT_BYTES_MAX = 16 * 1024
# Characters of a word that count.
WORD_MAX = 64
# Words of a question.
ASKED_MAX = 16
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text in order, each once."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    # Folding can bring a letter out of its form again, as with some ligatures.
    plain = unicodedata.normalize("NFKC", plain)
    return list(dict.fromkeys(word[:WORD_MAX] for word in _WORD.findall(plain)))


def text_of(payload: str | None) -> str:
    """The first 16 KB of what a payload says: its texts and numbers in their order, keys left out."""
    if payload is None:
        return ""
    said = " ".join(_said(json.loads(payload)))
    whole = said.encode("utf-8", "replace")
    return said if len(whole) <= TEXT_BYTES_MAX else whole[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _said(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _said(item)
    elif isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
