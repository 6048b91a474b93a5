"""What every contestant carries: a message of a usual size."""

from __future__ import annotations

import json

CONTENT = {"content": "The report for today is ready. " * 5, "kind": "report", "number": 17}
PAYLOAD = json.dumps(CONTENT)
