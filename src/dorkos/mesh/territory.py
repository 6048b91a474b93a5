"""Which folders a walk passes over, by their names and by what they hold."""

from __future__ import annotations

import re

# What holds copies, caches and build results, whoever made them.
EXCLUDED = frozenset(
    {
        *("node_modules", "bower_components", "site-packages", "vendor", "extensions"),
        *("dist", "build", "target", "__pycache__", "venv"),
        *("Library", "lost+found", "$RECYCLE.BIN", "System Volume Information"),
    }
)

# Trees that a kernel makes up while they are read.
VIRTUAL = frozenset({"/dev", "/proc", "/sys"})

# A virtual environment, and what its maker itself calls a cache.
KEEP_OUT = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})

# What editors, downloads and programs that were interrupted leave beside the real thing.
_TEMPORARY = re.compile(
    r"""^~ | ~$ | ^\#.*\#$
    | \.(?:tmp|temp|bak|backup|orig|old|part|partial|swp) (?: [.\-_]?\d* | [.\-_][0-9a-ftz:\-]{6,} ) $""",
    re.IGNORECASE | re.VERBOSE,
)


def is_walked(name: str) -> bool:
    """Whether a directory of this name is looked into.

    Directories that begin with a dot hold settings and caches: `.claude`, `.codex` and their like are a
    product's settings, not projects.
    """
    return name[0] != "." and name not in EXCLUDED and _TEMPORARY.search(name) is None
