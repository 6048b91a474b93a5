"""The `dorkos` command."""
