"""The gate: each of its checks, on every address. Removing one fails a test here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.types import Message, Receive, Scope, Send

from dorkos.clock import ManualClock
from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.server.auth import Gate, bearer_secret, check_host, check_origin, names_of
from dorkos.server.failures import LIMIT, WINDOW_S, Failures
from dorkos.server.operations import OPERATIONS
from dorkos.server.paths import OTHER_PATHS
from dorkos.setting_groups.server import ServerSettings
from dorkos.vocabulary import Scope as TokenScope
from tests.server.kit import TOKEN, Served, connected, raw, serving

LOOK = "/api/shelf/items/7"
ADDRESSES = [
    *((operation.method, operation.path) for operation in OPERATIONS),
    *(("GET", path) for path in OTHER_PATHS if path != "/api/health"),
    ("GET", "/api/nothing"),
    ("GET", "/"),
    ("OPTIONS", "/api/status"),
    ("BREW", "/api/status"),
]
# Its handlers never run in these tests, so anything may stand for the subsystems.
NOBODY = {operation.part: None for operation in OPERATIONS if operation.part != "system"}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of the expected refusal."""
    body: dict[str, Any] = answer.json()
    assert (status, code) == (answer.status_code, body["code"]), (
        f"{answer.request.method} {answer.request.url}"
    )
    return body


def far(now: datetime) -> datetime:
    """Long after."""
    return now + timedelta(days=1)


async def minted(served: Served, *scopes: TokenScope) -> str:
    """The secret of a token that lasts a minute."""
    secret = new_secret()
    token = NewToken(new_id(), secret, "relay.agent.team.a", frozenset(scopes))
    await served.db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(minutes=1)))
    return secret


async def test_every_address_refuses_a_request_without_a_token() -> None:
    """Known or not, whatever the method: what is there is nobody's business without one."""
    async with serving(operations=OPERATIONS, parts=NOBODY) as served, served.stranger() as stranger:
        for method, path in ADDRESSES:
            answer = await stranger.request(method, path)
            refused(answer, 401, "token_missing")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_address_refuses_a_wrong_token() -> None:
    """It is never treated as if none had been sent, and never as the operator's."""
    async with (
        serving(operations=OPERATIONS, parts=NOBODY) as served,
        served.stranger(Authorization="Bearer dork_wrong") as stranger,
    ):
        for method, path in ADDRESSES:
            served.clock.advance(timedelta(seconds=WINDOW_S))  # As many at once would be told to wait.
            answer = await stranger.request(method, path)
            refused(answer, 401, "token_invalid")
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_every_address_refuses_a_foreign_host_and_a_foreign_page_even_with_the_token() -> None:
    """A page elsewhere may have been handed the token, and a name elsewhere may lead here."""
    async with serving(operations=OPERATIONS, parts=NOBODY) as served:
        for method, path in [*ADDRESSES, ("GET", "/api/health")]:
            host = await served.client.request(method, path, headers={"Host": "evil.example"})
            refused(host, 403, "host_not_allowed")
            origin = await served.client.request(method, path, headers={"Origin": "http://evil.example"})
            refused(origin, 403, "origin_not_allowed")
            assert not [name for name in origin.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN} x",
        f"Bearer{TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer  x{TOKEN}",
        f"Bearer {TOKEN},",
        "Bearer null",
        "Bearer ÿ",
    ],
)
async def test_what_is_presented_but_cannot_be_verified_is_invalid_not_missing(
    served: Served, value: str
) -> None:
    """Malformed, of another scheme, or nearly right."""
    request = f"GET {LOOK} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\nConnection: close\r\n\r\n"
    answer = await raw(served.http.url, request.encode("latin-1"))

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"token_invalid"' in answer


async def test_two_credentials_are_none(served: Served) -> None:
    """Which of them counts would be a guess."""
    headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
    async with served.stranger() as stranger:
        refused(await stranger.get(LOOK, headers=headers), 401, "token_invalid")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR "])
async def test_the_operators_token_makes_the_operator(served: Served, scheme: str) -> None:
    """The name of the scheme is not case-sensitive."""
    async with served.stranger(Authorization=f"{scheme} {TOKEN}") as client:
        assert (await client.get(LOOK)).status_code == 200
    assert served.shelf.callers == [OPERATOR]


async def test_a_stored_token_makes_the_caller_it_was_minted_for(served: Served) -> None:
    """With the scopes it has and no others."""
    async with served.stranger(Authorization=f"Bearer {await minted(served, TokenScope.OBSERVE)}") as agent:
        assert (await agent.get(LOOK)).status_code == 200
        assert "operate" in refused(await agent.delete(LOOK), 403, "forbidden")["error"]
    [caller] = served.shelf.callers
    assert (caller.subject, caller.is_operator) == ("relay.agent.team.a", False)


@pytest.mark.parametrize(
    "path", ["/api/ready", "/api/events", "/api/openapi.json", "/api/docs", "/api/status"]
)
async def test_reading_the_system_needs_the_scope_for_it(served: Served, path: str) -> None:
    """A token for sending does not read."""
    async with served.stranger(Authorization=f"Bearer {await minted(served, TokenScope.SEND)}") as agent:
        refused(await agent.get(path), 403, "forbidden")


async def test_an_expired_token_is_invalid(served: Served) -> None:
    """From the instant it expires."""
    async with served.stranger(Authorization=f"Bearer {await minted(served, TokenScope.OBSERVE)}") as agent:
        assert (await agent.get(LOOK)).status_code == 200
        served.clock.advance(timedelta(minutes=1))
        refused(await agent.get(LOOK), 401, "token_invalid")


async def test_too_many_tokens_that_do_not_hold_are_told_to_wait(served: Served) -> None:
    """With how long. A request without a token guesses nothing; a token that holds is let in meanwhile."""
    async with served.stranger() as nobody, served.stranger(Authorization="Bearer dork_wrong") as stranger:
        for _ in range(LIMIT):
            refused(await nobody.get(LOOK), 401, "token_missing")
            refused(await stranger.get(LOOK), 401, "token_invalid")
        answer = await stranger.get(LOOK)
        refused(answer, 429, "too_many_failures")
        assert answer.headers["retry-after"] == "60"
        assert (await served.client.get(LOOK)).status_code == 200
        served.clock.advance(timedelta(seconds=WINDOW_S))
        refused(await stranger.get(LOOK), 401, "token_invalid")


async def test_the_last_use_of_a_token_is_noted_once_a_minute(served: Served) -> None:
    """For the person who wonders which of them can go."""
    secret = await minted(served, TokenScope.OBSERVE)

    async def used() -> list[datetime | None]:
        await served.authenticate.uses.settled()
        return list(await served.db.read(lambda c: c.execute(sa.select(tokens.c.last_used_at)).scalars()))

    async with served.stranger(Authorization=f"Bearer {secret}") as agent:
        begun = served.clock.now()
        assert await used() == [None]
        await agent.get(LOOK)
        assert await used() == [begun]
        served.clock.advance(timedelta(seconds=59))
        await agent.get(LOOK)
        assert await used() == [begun]
        await served.db.write(lambda tx: tx.execute(sa.update(tokens).values(expires_at=far(tx.now()))))
        served.clock.advance(timedelta(seconds=1))
        await agent.get(LOOK)
        assert await used() == [served.clock.now()]


async def test_a_revoked_token_is_invalid(served: Served) -> None:
    """At once."""
    async with served.stranger(Authorization=f"Bearer {await minted(served, TokenScope.OBSERVE)}") as agent:
        await served.db.write(lambda tx: tx.execute(sa.update(tokens).values(revoked_at=tx.now())))
        refused(await agent.get(LOOK), 401, "token_invalid")


async def test_health_alone_needs_no_token(served: Served) -> None:
    """Whoever watches over the process has none; a wrong one is not looked at."""
    async with served.stranger() as stranger:
        assert (await stranger.get("/api/health")).status_code == 200
        for path in ("/api/health/", "/api/healthy", "/api/%68ealth", "//api/health"):
            refused(await stranger.get(path), 401, "token_missing")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:4242", "box.example:4242"])
def test_the_server_is_called_by_its_own_names(host: str) -> None:
    """On any port: behind a tunnel or a published port it is another than the one bound."""
    check_host([host], names=names_of(ServerSettings(host="box.example")))


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        ["localhost.evil.example"],
        ["localhost@evil.example"],
        ["127.0.0.1.evil.example"],
        ["127.0.0.2"],
        ["192.168.1.5"],
        ["[::1"],
        ["::1"],
        ["localhost:"],
        ["localhost:x"],
        ["localhost", "localhost"],
        ["localhost, evil.example"],
        ["localhost:80:80"],
        ["0.0.0.0"],
        ["local host"],
        ["localhost\n"],
    ],
)
def test_any_other_name_is_refused(hosts: list[str]) -> None:
    """Also what only looks like one of its own."""
    with pytest.raises(DorkError) as refusal:
        check_host(hosts, names=names_of(ServerSettings(host="127.0.0.1")))

    assert refusal.value.code == ErrorCode.HOST_NOT_ALLOWED


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::"])
def test_bound_to_every_address_it_answers_to_the_names_that_are_allowed(bound_to: str) -> None:
    """And to those of this machine; the address that means every one is no name."""
    allowed = ["Dork.example", "192.168.1.5", "fd00::1"]
    names = names_of(ServerSettings.model_validate({"host": bound_to, "allowedHosts": allowed}))
    for host in ("dork.example", "DORK.example:4242", "192.168.1.5:4242", "[fd00::1]:4242", "localhost"):
        check_host([host], names=names)
    for host in ("evil.example", "192.168.1.6", "0.0.0.0", "[::]", "1", "[nonsense]", "dead:beef"):
        with pytest.raises(DorkError):
            check_host([host], names=names)


@pytest.mark.parametrize("origins", [[], ["http://localhost:4242"], ["HTTP://LocalHost:4242"]])
def test_a_program_and_a_page_of_our_own_are_let_in(origins: list[str]) -> None:
    """A program sends no Origin; a page of ours sends the address it was loaded from."""
    check_origin(origins, scheme="http", host="localhost:4242")


def test_a_page_that_a_proxy_served_by_tls_is_let_in_under_an_allowed_name() -> None:
    """The proxy speaks plain HTTP with this server, so only the page's Origin tells of TLS."""
    check_origin(["https://dork.example"], scheme="http", host="dork.example")
    with pytest.raises(DorkError):
        check_origin(["https://evil.example"], scheme="http", host="dork.example")


@pytest.mark.parametrize(
    "origins",
    [
        ["null"],
        [""],
        ["http://localhost"],
        ["http://localhost:4243"],
        ["https://localhost:4242"],
        ["http://127.0.0.1:4242"],
        ["http://localhost:4242.evil.example"],
        ["http://localhost:4242", "http://localhost:4242"],
        ["file://"],
    ],
)
def test_a_page_of_another_origin_is_refused(origins: list[str]) -> None:
    """Another port, another scheme, another spelling of this machine: another origin."""
    with pytest.raises(DorkError) as refusal:
        check_origin(origins, scheme="http", host="localhost:4242")

    assert refusal.value.code == ErrorCode.ORIGIN_NOT_ALLOWED


async def test_a_page_of_our_own_reaches_the_operation(served: Served) -> None:
    """Its Origin is what the Host header says, through a tunnel too."""
    headers = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    assert (await served.client.get(LOOK, headers=headers)).status_code == 200


async def test_a_request_without_a_host_is_refused(served: Served) -> None:
    """HTTP/1.0 may leave it out."""
    request = f"GET {LOOK} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    answer = await raw(served.http.url, request.encode("ascii"))

    assert b'"host_not_allowed"' in answer


async def test_the_token_is_checked_before_the_body_is_read(served: Served) -> None:
    """A stranger is answered without sending a byte of it."""
    async with connected(served.http.url) as (reader, writer):
        writer.write(b"POST /api/shelf/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        await writer.drain()
        assert await reader.read(13) == b"HTTP/1.1 401 "


async def test_what_is_no_http_request_does_not_pass_the_gate() -> None:
    """A WebSocket would be checked by nothing behind it."""

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it passed")

    async def never() -> Message:
        raise AssertionError("nothing is received")

    async def keep(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []

    async def anybody(secret: str) -> Any:
        return OPERATOR

    gate = Gate(
        behind,
        authenticate=anybody,
        browser=anybody,
        names=frozenset(),
        failures=Failures(ManualClock()),
    )
    await gate({"type": "websocket"}, never, keep)

    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_secret_is_taken_from_one_well_formed_header() -> None:
    """Spaces around it are not part of it."""
    assert bearer_secret(["Bearer   abc  "]) == "abc"
