"""`python -m dorkos` is the `dorkos` command."""

import sys

from dorkos.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
