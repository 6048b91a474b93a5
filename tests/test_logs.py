"""How much is logged, and what never is."""

from __future__ import annotations

import logging

import pytest

from dorkos.logs import LEVELS, set_level


@pytest.mark.parametrize("level", LEVELS)
def test_requests_of_adapters_are_never_logged(level: str) -> None:
    """Their URLs and headers hold secrets, such as the token of a bot."""
    root = logging.getLogger()
    before = root.level
    try:
        set_level(level)
        for name in ("httpx", "httpcore.http11", "httpcore.connection"):
            assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING
    finally:
        set_level("info")
        root.setLevel(before)
