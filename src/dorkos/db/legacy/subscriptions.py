"""Subscriptions that the lineage remembered. They are kept to be read, and none comes alive."""

from __future__ import annotations

import json

from dorkos.db.legacy.home import LegacyHome, Missing
from dorkos.db.legacy.report import Report

FILE = "relay/subscriptions.json"
KEY = "lineage:subscriptions"


def collect(home: LegacyHome, report: Report) -> list[dict[str, object]]:
    """The file's content as one row of `system_state`.

    The lineage restored each as a handler that does nothing, which took messages and lost them.
    """
    document = home.document(FILE)
    if isinstance(document, Missing):
        return []
    count = len(document) if isinstance(document, list) else 1
    if count:
        report.note(
            f"{FILE}: {count} subscriptions are kept in system_state under {KEY} and consume nothing. "
            "Whoever wants those messages subscribes again."
        )
    # Escapes, because a pattern may hold what neither engine can store.
    return [{"key": KEY, "value": json.dumps(document)}]
