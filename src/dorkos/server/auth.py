"""Who is asking: the checks that every request passes before anything else looks at it.

Order: the Host header, the Origin header, the path's encoding, the token. Nothing behind this layer
reads a credential. What is presented but cannot be verified is refused; it is never treated as absent.
A browser shows its session's cookie instead of a token, and proves besides that a page of ours asks.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.identity.tokens import caller_of, same_secret
from dorkos.server.address import check_head, routed_path
from dorkos.server.cookies import check_own_page, session_secret
from dorkos.server.failures import Failures
from dorkos.server.token_use import TokenUse
from dorkos.setting_groups.server import ServerSettings

Authenticate = Callable[[str], Awaitable[Caller | None]]

# Whoever watches over the process has no token, and a browser has none before it is logged in. Every other
# path needs one, known or not.
OPEN_PATHS = frozenset({"/api/health", "/login"})
OPEN_FOLDER = "/static/"
# Other systems report here. They know neither a token nor what this server is called inside a tunnel: what
# they send is signed, and a page of a browser could not sign it.
WEBHOOKS = "/api/relay/webhooks/"

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:@/]+)(?::[0-9]{1,5})?")
# To listen there means every address; as a name it is none.
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # It is kept out, not bound.
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Authenticator:
    """Turns a secret into a caller: the operator's own, else one of the tokens in the database."""

    def __init__(self, database: Database, clock: Clock, operator_token: str) -> None:
        """`operator_token` is the secret of the person who owns the data directory."""
        self._database = database
        self._clock = clock
        self._operator_token = operator_token
        self.uses = TokenUse(database, clock)

    async def __call__(self, secret: str) -> Caller | None:
        """Who presents `secret`, or None if it is unknown, expired or revoked."""
        if same_secret(secret, self._operator_token):
            return OPERATOR
        now = self._clock.now()
        caller = await self._database.read(lambda connection: caller_of(connection, secret, now))
        if caller is not None:
            self.uses.note(caller)
        return caller


class Gate:
    """ASGI middleware; see the module. It is written without Starlette's helper, which breaks streams."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Authenticate,
        browser: Authenticate,
        names: frozenset[str],
        failures: Failures,
    ) -> None:
        """`browser` knows the secrets of browser sessions. `names` are what the server may be called besides
        this machine's own."""
        self._app = app
        self._authenticate = authenticate
        self._browser = browser
        self._names = names
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its caller, or raise the refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Nothing here speaks WebSocket yet, and what is not checked below must not pass.
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        check_head(scope["raw_path"], scope["query_string"], scope["headers"])
        path = routed_path(scope["raw_path"])
        if path.startswith(WEBHOOKS) and scope["method"] == "POST":
            scope["path"] = path
            await self._app(scope, receive, send)
            return
        check_host(headers.getlist("host"), names=self._names)
        check_origin(headers.getlist("origin"), scheme=scope["scheme"], host=headers["host"])
        scope["path"] = path
        if scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_FOLDER):
            try:
                await self._identify(scope, headers)
            except DorkError as refusal:
                raise self._failures.counted(refusal, _address_of(scope)) from refusal
        await self._app(scope, receive, send)

    async def _identify(self, scope: Scope, headers: Headers) -> None:
        authorization = headers.getlist("authorization")
        session = None if authorization else session_secret(headers)
        if session is None:
            verify = partial(verified, self._authenticate, bearer_secret(authorization))
        else:
            check_own_page(scope["method"], scope["path"], headers, session)
            verify = partial(verified, self._browser, session)
        state = scope.setdefault("state", {})
        state["caller"] = await verify()
        state["verify"] = verify
        state["session"] = session


def caller_of_request(connection: HTTPConnection) -> Caller:
    """The caller that the gate let through. On an open path there is none, and this is a fault of ours."""
    caller: Caller = connection.state.caller
    return caller


def verifier_of_request(connection: HTTPConnection) -> Callable[[], Awaitable[Caller]]:
    """Verifies the request's token again, for answers that last longer than a token may."""
    verify: Callable[[], Awaitable[Caller]] = connection.state.verify
    return verify


async def verified(authenticate: Authenticate, secret: str) -> Caller:
    """The caller behind `secret`. Raises `token_invalid`."""
    caller = await authenticate(secret)
    if caller is None:
        raise DorkError(
            ErrorCode.TOKEN_INVALID,
            "The token is unknown, expired or revoked.",
            hint="A run's token ends with it; the operator's is in the file `token` of the data directory. "
            "`dorkos open` logs a browser in.",
        )
    return caller


def bearer_secret(authorization: list[str]) -> str:
    """The secret in `Authorization: Bearer <secret>`. Raises `token_missing` or `token_invalid`."""
    if not authorization:
        raise DorkError(
            ErrorCode.TOKEN_MISSING,
            "The request carries no token.",
            hint="Send `Authorization: Bearer <token>`; the file `token` of the data directory holds one.",
        )
    found = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
    if found is None:
        raise DorkError(
            ErrorCode.TOKEN_INVALID,
            "The Authorization header is not `Bearer <token>`.",
            hint="Send exactly one such header; other schemes are not known here.",
        )
    return found.group(1)


def names_of(settings: ServerSettings) -> frozenset[str]:
    """By which names and literal addresses, in the form of a Host header, the server may be called."""
    return frozenset(
        f"[{name}]" if ":" in name and name[0] != "[" else name
        for name in (*_LOOPBACK_NAMES, settings.host.lower(), *settings.allowed_hosts)
        if name not in _EVERY_ADDRESS
    )


def check_host(hosts: list[str], *, names: frozenset[str]) -> None:
    """Raise `host_not_allowed` unless the request calls this server by a name of its own.

    A page on the internet may point a name of its own at 127.0.0.1 and read the answers as its own; the
    Host header then still says that name. The port is not looked at: behind a tunnel or a published
    container port it differs, and it is not what such a page could vary.
    """
    found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if found is None or found.group(1) not in names:
        raise DorkError(
            ErrorCode.HOST_NOT_ALLOWED,
            f"This server is not called {', '.join(hosts)[:100]!r}.",
            hint="Use localhost or 127.0.0.1, or add the name to `server.allowedHosts`.",
        )


def check_origin(origins: list[str], *, scheme: str, host: str) -> None:
    """Raise `origin_not_allowed` if the request comes from a page that is not of this server.

    Programs send no Origin. Browsers send it with every request that could change something. A page that
    was loaded by TLS came through a proxy in front of this server, which is on no loopback name.
    """
    own = {f"{scheme}://{host}".lower()}
    named = _HOST.fullmatch(host.lower())
    if named is not None and named.group(1) not in _LOOPBACK_NAMES:
        own.add(f"https://{host}".lower())
    if origins and (len(origins) > 1 or origins[0].lower() not in own):
        raise DorkError(
            ErrorCode.ORIGIN_NOT_ALLOWED,
            f"Pages of {', '.join(origins)[:100]!r} may not use this server.",
            hint="Call it from a program, or from a page that it serves itself.",
        )


def _address_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
