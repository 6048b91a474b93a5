"""How long pages of the console take with 100,000 runs and 1,000,000 messages stored, and what everybody else
waits for while twenty windows load theirs."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx

from benchmarks.report import Row
from dorkos.ids import new_id
from tests.server_process import ServerProcess

_RUNS = 100_000
_MESSAGES = 1_000_000
_ROUNDS = 5
_PROMISED_MS = 300
_WINDOWS = 20
_LOADS = 3
_SCHEDULE = new_id()
_MAILBOX = "relay.human.kim"
_PAGES = (
    *("/", "/pulse", "/pulse/runs", "/pulse/runs?state=failed", f"/pulse/schedules/{_SCHEDULE}", "/inbox"),
    *("/mesh", "/relay", "/relay?status=failed", "/relay/mailboxes", f"/relay/mailboxes/{_MAILBOX}"),
    *(f"/relay/mailboxes/{_MAILBOX}?status=failed", "/relay/dead", "/relay/adapters", "/database"),
)
_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
_LATELY = "strftime('%Y-%m-%dT%H:%M:%S.000Z', 'now', '-' || ({count} - n) || ' seconds')"
_SCHEDULE_ROW = f"""
INSERT INTO pulse_schedules (id, name, cron, prompt, command, decided_until, created_at, updated_at)
SELECT '{_SCHEDULE}', 'report', '0 9 * * *', 'go', '["true"]', at, at, at
FROM (SELECT strftime('%Y-%m-%dT%H:%M:%S.000Z', 'now') AS at)
"""  # Numbers and ids of ours.
_RUN_ROWS = f"""{_NUMBERS.format(count=_RUNS)}
INSERT INTO pulse_runs (id, schedule_id, status, prompt, chain_id, created_at, started_at, finished_at,
    duration_ms, output)
SELECT printf('01J%023d', n), CASE WHEN n % 10 = 0 THEN '{_SCHEDULE}' END,
    CASE WHEN n % 7 = 0 THEN 'failed' ELSE 'completed' END, 'go', printf('01J%023d', n), at, at, at, n % 9000,
    'It said so.'
FROM (SELECT n, {_LATELY.format(count=_RUNS)} AS at FROM numbers)
"""
_MESSAGE_ROWS = f"""{_NUMBERS.format(count=_MESSAGES)}
INSERT INTO relay_messages (id, subject, sender, payload, bytes, chain_id, hop_count, max_hops, created_at)
SELECT printf('01J%023d', n), '{_MAILBOX}', 'relay.human.sam', '"a word"', 8, printf('01J%023d', n), 1, 5, at
FROM (SELECT n, {_LATELY.format(count=_MESSAGES)} AS at FROM numbers)
"""
_DELIVERY_ROWS = f"""{_NUMBERS.format(count=_MESSAGES)}
INSERT INTO relay_index
    (id, message_id, endpoint_id, position, status, available_at, created_at, delivered_at)
SELECT printf('01K%023d', n), printf('01J%023d', n),
    (SELECT id FROM relay_endpoints WHERE subject = '{_MAILBOX}'), n, 'delivered', at, at, at
FROM (SELECT n, {_LATELY.format(count=_MESSAGES)} AS at FROM numbers)
"""


def rows() -> list[Row]:
    """The median of a few loads of each page, over HTTP, with the whole page rendered."""
    with tempfile.TemporaryDirectory(prefix="dorkos-pages-") as folder:
        home, boundary = Path(folder) / "home", Path(folder) / "projects"
        boundary.mkdir()
        server = ServerProcess(home, boundary=boundary)
        with server, server.client() as api:
            api.post("/api/relay/endpoints", json={"subject": _MAILBOX}).raise_for_status()
        _fill(home / "dork.db")
        with server, server.client() as api, httpx.Client(base_url=server.url, timeout=60) as browser:
            browser.get(api.post("/api/logins/links").json()["path"]).raise_for_status()
            found = {page: _times_ms(browser, page) for page in _PAGES}
            waited = _beside_windows(server, browser, api)
    return [
        *(
            Row.of(f"page {page.replace(_SCHEDULE, '…')}", took, "ms", _PROMISED_MS)
            for page, took in found.items()
        ),
        Row.of(f"a message sent while {_WINDOWS} windows load", waited, "ms", _PROMISED_MS),
    ]


def _beside_windows(server: ServerProcess, browser: httpx.Client, api: httpx.Client) -> list[float]:
    """How long sending takes while each of twenty windows loads its overview, as it does after events."""
    cookies = dict(browser.cookies)

    def window() -> None:
        with httpx.Client(base_url=server.url, timeout=60, cookies=cookies, trust_env=False) as one:
            for _ in range(_LOADS):
                one.get("/").raise_for_status()

    took = []
    with ThreadPoolExecutor(_WINDOWS) as pool:
        windows = [pool.submit(window) for _ in range(_WINDOWS)]
        while not all(each.done() for each in windows):
            begun = time.perf_counter()
            sent = api.post("/api/relay/messages", json={"subject": _MAILBOX, "payload": "a word"})
            took.append((time.perf_counter() - begun) * 1000)
            sent.raise_for_status()
        for each in windows:
            each.result()
    return took


def _fill(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in (_SCHEDULE_ROW, _RUN_ROWS, _MESSAGE_ROWS, _DELIVERY_ROWS):
            connection.execute(statement)
        connection.execute("ANALYZE")


def _times_ms(browser: httpx.Client, page: str) -> list[float]:
    browser.get(page).raise_for_status()  # The first also compiles the template.
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        browser.get(page)
        took.append((time.perf_counter() - begun) * 1000)
    return took
