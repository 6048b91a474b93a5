"""`dorkos relay adapters` against a real server, with a real other side."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count

import httpx

from dorkos.relay.adapters.signature import sign
from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.server_process import ServerProcess

SECRET = "a-secret-of-the-tests"
_NUMBERS = count()


def until(dorkos: Dorkos, cursor: str, look: Callable[[], bool]) -> None:
    """Look again after each event, until there is something to see."""
    for _ in range(50):
        if look():
            return
        (event,) = dorkos("events", "--after", cursor, "--limit", "1", "--json").lines
        cursor = event["cursor"]
    raise AssertionError("it did not come about within 50 events")


def test_what_is_sent_to_a_webhook_arrives_there(dorkos: Dorkos, scripted: ScriptedServer) -> None:
    """It is added, shown without its secret, used, and removed."""
    cursor = str(dorkos("status", "--json").json["eventCursor"])
    scripted.answer({})
    settings = (f"outbound.url={scripted.url}/hook", "outbound.secret=-", "outbound.allowPrivate=true")
    added = dorkos("relay", "adapters", "add", "cli-out", "webhook", *settings, stdin=f"{SECRET}\n".encode())
    assert added.code == 0
    shown = dorkos("relay", "adapters", "show", "cli-out")
    assert "(stored)" in shown.out
    assert SECRET not in added.out + shown.out

    sent = dorkos("relay", "send", "relay.webhook.cli-out", "done", "--json").json
    message = ("relay", "messages", "--subject", "relay.webhook.cli-out", "--json")
    until(dorkos, cursor, lambda: dorkos(*message).json["messages"][0]["status"] == "delivered")
    assert f"X-DorkOS-Message: {sent['messageId']}" in scripted.requests[0]
    listed = dorkos("relay", "adapters")
    assert "cli-out" in listed.out
    assert "connected" in listed.out

    assert dorkos("relay", "adapters", "disable", "cli-out").code == 0
    assert "  off" in dorkos("relay", "adapters", "list").out
    assert dorkos("relay", "adapters", "enable", "cli-out").code == 0
    assert dorkos("relay", "adapters", "reload").code == 0
    assert dorkos("relay", "adapters", "remove", "cli-out").code == 0
    assert dorkos("relay", "adapters", "show", "cli-out").code == 3


def test_a_trial_says_what_came_of_it(dorkos: Dorkos, scripted: ScriptedServer) -> None:
    """And its exit code with it."""
    settings = {"outbound": {"url": f"{scripted.url}/hook", "secret": SECRET, "allowPrivate": True}}
    dorkos("relay", "adapters", "add", "cli-try", "webhook", "--json-config", json.dumps(settings), "--off")
    scripted.answer({})
    scripted.answer({}, 500)
    done, failed = (dorkos("relay", "adapters", "test", "cli-try") for _ in range(2))
    assert (done.code, failed.code) == (0, 1)
    assert "HTTP 500" in failed.out
    private = dorkos("relay", "adapters", "set", "cli-try", "outbound.allowPrivate=null")
    assert private.code == 0
    assert "no public address" in dorkos("relay", "adapters", "test", "cli-try").out


def test_settings_that_cannot_be_used_are_refused(dorkos: Dorkos) -> None:
    """With the name of the setting, and nothing is stored."""
    wrong = dorkos("relay", "adapters", "add", "cli-wrong", "webhook", "outbound.url=nowhere")
    assert wrong.code == 2
    assert "outbound.url" in wrong.err
    assert dorkos("relay", "adapters", "add", "cli-wrong", "webhook", "outbound").code == 2
    assert dorkos("relay", "adapters", "add", "cli-wrong", "webhook", "--json-config", "[]").code == 2
    assert dorkos("relay", "adapters", "show", "cli-wrong").code == 3


def test_a_request_from_outside_needs_no_token_but_a_signature(dorkos: Dorkos, server: ServerProcess) -> None:
    """Also by a name that the server does not know, as a tunnel gives it one."""
    dorkos("relay", "open", "relay.human.cli-hook")
    dorkos(
        *("relay", "adapters", "add", "cli-in", "webhook"),
        *("inbound.subject=relay.human.cli-hook", f"inbound.secret={SECRET}"),
    )
    timestamp, body = str(int(time.time())), '{"grüße": "☕"}'.encode()
    nonce = f"nonce-of-tests-{next(_NUMBERS)}"
    headers = {
        "Host": "abc.tunnel.example",
        "X-Timestamp": timestamp,
        "X-Nonce": nonce,
        "X-Signature": sign(SECRET, timestamp, nonce, body),
        "Content-Type": "application/json",
    }
    url = f"{server.url}/api/relay/webhooks/cli-in"
    taken, replayed = (httpx.post(url, content=body, headers=headers) for _ in range(2))
    assert (taken.status_code, taken.json()["ok"], replayed.status_code) == (200, True, 401)
    assert replayed.json()["error"] == "Nonce already seen (replay)"
    unsigned = httpx.post(url, content=body, headers={**headers, "X-Signature": "0" * 64})
    assert (unsigned.status_code, unsigned.json()["code"]) == (401, "signature_invalid")
    (message,) = dorkos("relay", "inbox", "relay.human.cli-hook", "--json").json["messages"]
    assert message["from"] == "relay.webhook.cli-in"
    assert message["payload"]["data"] == {"grüße": "☕"}

    dorkos("relay", "close", "relay.human.cli-hook")
    nonce = f"nonce-of-tests-{next(_NUMBERS)}"
    again = {**headers, "X-Nonce": nonce, "X-Signature": sign(SECRET, timestamp, nonce, body)}
    lost = httpx.post(url, content=body, headers=again)
    assert (lost.status_code, lost.json()["code"]) == (422, "not_delivered")
    assert httpx.post(f"{server.url}/api/relay/webhooks/none", content=body).status_code == 404
    # Nothing else is open by beginning like a webhook's address.
    assert httpx.get(f"{server.url}/api/relay/webhooks/../adapters").status_code in (401, 404)
    assert httpx.get(f"{server.url}/api/relay/webhooks/%2e%2e/adapters").status_code in (401, 404, 405)
