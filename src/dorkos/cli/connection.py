"""Getting at the server: a client for one call, and addresses made of what people typed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from dorkos.cli.options import Options
from dorkos.cli.target import find_target
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import check_storable

if TYPE_CHECKING:
    from dorkos.cli.client import Client


@contextmanager
def connect(options: Options) -> Iterator[Client]:
    """A client for this call, closed afterwards. Nothing is sent before it is used."""
    target = find_target(options, os.environ)
    from dorkos.cli.client import Client  # Costs a quarter of a second, which --help should not wait for.

    client = Client(target)
    try:
        yield client
    finally:
        client.close()


def address(root: str, *parts: str) -> str:
    """`root` with the parts appended, each quoted whole: a `/` within a part stays in the part."""
    check_storable(parts)
    if not all(parts):
        raise DorkError(
            ErrorCode.USAGE, "An id, a subject or a path is empty.", hint="Is a shell variable unset?"
        )
    if not {".", ".."}.isdisjoint(parts):
        # An address cannot hold them as segments: they would lead to another operation.
        raise DorkError(
            ErrorCode.USAGE, "`.` and `..` are no id, subject or path.", hint="List what there is."
        )
    return "/".join([root, *(quote(part, safe="") for part in parts)])
