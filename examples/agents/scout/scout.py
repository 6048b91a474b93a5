"""Scout: an agent that a schedule runs. It looks around, reads its mail, and tells scribe what it saw.

It is an ordinary program. DorkOS gives it a clean environment with everything it needs to speak:

    DORKOS_URL       where the server is
    DORKOS_TOKEN     a token of this run alone, revoked when the run ends
    DORKOS_SUBJECT   the address this agent speaks as, which is also its mailbox

The prompt of the schedule arrives on standard input, here the address to report to.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any


def call(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request to DorkOS, as this run."""
    request = urllib.request.Request(  # noqa: S310  # The URL is the one DorkOS gave us.
        os.environ["DORKOS_URL"] + path,
        method=method,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ['DORKOS_TOKEN']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  # As above.
        decoded: dict[str, Any] = json.load(answer)
        return decoded


def read_mail(mailbox: str) -> int:
    """Take what waits, and acknowledge it: only then is it delivered."""
    claimed = call("POST", f"/api/relay/endpoints/{mailbox}/claim", {"limit": 10})["deliveries"]
    for delivery in claimed:
        payload = delivery["message"]["payload"]
        print("mail:", payload["content"] if isinstance(payload, dict) else payload)
        receipt = {"messageId": delivery["messageId"], "leaseToken": delivery["leaseToken"]}
        call("POST", f"/api/relay/endpoints/{mailbox}/ack", receipt)
    return len(claimed)


def look_around(folder: Path) -> str:
    """What there is to report."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"I see {len(files)} files with {size} bytes in {folder.name}."


def main() -> int:
    """Read the mail, look, report. The exit code says whether the report was stored."""
    recipient = sys.stdin.read().strip()
    me = os.environ["DORKOS_SUBJECT"]
    read_mail(me)
    finding = look_around(Path.cwd().parent)
    print(finding)
    receipt = call(
        "POST",
        "/api/relay/messages",
        {"subject": recipient, "payload": {"content": finding}, "replyTo": me},
    )
    print(f"stored for {receipt['deliveredTo']} recipient(s), message {receipt['messageId']}")
    return 0 if receipt["deliveredTo"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
