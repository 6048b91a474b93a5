"""`python -m dorkos` is the `dorkos` command."""

import sys

if __name__ == "__main__":
    try:
        from dorkos.cli.main import main
    except KeyboardInterrupt:  # While the modules are read there is nothing to stop yet.
        sys.exit(130)
    sys.exit(main())
