"""A line on standard error that says how far something is and makes way for what there is to say."""

from __future__ import annotations

import shutil
import sys

from dorkos.cli.render import visible

_CLEAR = "\r\x1b[2K"


class ProgressLine:
    """On a terminal only; elsewhere it says nothing. Clear it before anything else is written."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._is_shown = False

    def show(self, text: str) -> None:
        """Put `text` in the place of what was shown."""
        if not sys.stderr.isatty():
            return
        room = shutil.get_terminal_size().columns - 1  # A full line would wrap, and could not be cleared.
        sys.stderr.write(_CLEAR + visible(text)[:room])
        sys.stderr.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Take away what is shown."""
        if self._is_shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._is_shown = False
