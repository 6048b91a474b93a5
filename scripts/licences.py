"""Lists the licence of everything that `pip install dorkos` brings. Run it as `make licences`."""

from __future__ import annotations

import re
import sys

from scripts.pins import pins

# Nobody who installs DorkOS takes on more than to keep notices (MPL-2.0: and to share changes to its files).
ALLOWED = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"),
        *("Unlicense", "Zlib"),
    }
)


def is_allowed(licence: str) -> bool:
    """Whether the expression comes down to licences that are allowed."""
    words = set(re.split(r"[\s()]+", licence)) - {"", "AND", "OR"}
    return bool(words) and words <= ALLOWED


def main() -> int:
    """Print the list; 1 if a package does not say its licence, or has one that is not allowed."""
    odd = 0
    for pin in pins():
        if not pin.is_here:
            print(f"{pin.name:<28} {pin.version:<12} (not for this system)")
            continue
        licence = pin.licence
        is_fine = licence is not None and is_allowed(licence)
        odd += not is_fine
        remark = "" if is_fine else "   <- look at this"
        print(f"{pin.name:<28} {pin.version:<12} {licence or 'not said'}{remark}")
    return int(odd > 0)


if __name__ == "__main__":
    sys.exit(main())
