"""What a page says after a change was made. The address names only the word, never the text."""

from __future__ import annotations

NOTICES = {
    "fleet": "The fleet's mode was set.",
}
