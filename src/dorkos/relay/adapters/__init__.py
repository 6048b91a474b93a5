"""Connections to the outside: each has a mailbox for what goes out, and publishes what comes in."""
