"""The directory boundary: every path that comes from outside is resolved here, once, and kept resolved."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode


class Boundary:
    """Paths must lie in `root` and outside `data_directory`, which holds the operator's token."""

    def __init__(self, root: Path, *, data_directory: Path) -> None:
        """Both are resolved now, links included. Raises `invalid_setting` if `root` does not exist."""
        try:
            self.root = root.expanduser().resolve(strict=True)
        except OSError as fault:
            raise DorkError(
                ErrorCode.INVALID_SETTING,
                f"The boundary {root} cannot be used: {fault.strerror}.",
                hint="Set `server.boundary` to a directory that exists.",
            ) from fault
        self.data_directory = data_directory.resolve()

    def confine(self, path: str) -> Path:
        """The real path of `path`, links resolved as far as it exists. Raises `outside_boundary`.

        Use what this returns and forget what came in: checking one path and opening another is the hole.
        A relative path is refused, because whose working directory it means cannot be known.
        """
        if "\x00" in path:
            raise self._refusal(path, "it holds the character U+0000")
        try:
            named = Path(path).expanduser()
        except RuntimeError as fault:  # `~name` of a user that does not exist.
            raise self._refusal(path, str(fault)) from fault
        if not named.is_absolute():
            raise self._refusal(path, "it is not absolute")
        try:
            real = named.resolve()
            with contextlib.suppress(FileNotFoundError):
                real.lstat()  # Resolving hides a name that is too long, and a file in the middle.
        except (OSError, RuntimeError) as fault:
            raise self._refusal(path, f"it cannot be resolved ({fault})") from fault
        if not real.is_relative_to(self.root):
            raise self._refusal(path, f"it is not inside {self.root}")
        if real.is_relative_to(self.data_directory):
            raise self._refusal(path, "it is inside the data directory")
        return real

    def _refusal(self, path: str, why: str) -> DorkError:
        return DorkError(
            ErrorCode.OUTSIDE_BOUNDARY,
            f"The path {path!r} is not allowed: {why}.",
            hint=f"Use an absolute path inside {self.root}, or start with another `server.boundary`.",
        )
