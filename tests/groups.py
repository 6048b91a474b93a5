"""Groups of tests reach pytest-xdist, so that what a group shares is made once and not by each worker."""

from __future__ import annotations

import pytest
from _pytest.nodeid import NodeId


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the name by which `--dist loadgroup` tells its group.

    pytest-xdist 3.8 writes it where pytest reads it no longer since 9.2, and without it says nothing and
    deals the tests of a group out like all others.
    """
    for item in items:
        named = vars(item).get("_nodeid")
        if named is not None:
            item._id = NodeId.parse(named)
