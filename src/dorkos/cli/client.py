"""The one way in which commands talk to a server: REST over httpx, refusals as `DorkError`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from dorkos import __version__
from dorkos.cli.sse import ServerEvent, read_events
from dorkos.cli.target import Target
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import check_storable

QueryValue = str | int | None

_CONNECT_S = 5.0
_ANSWER_S = 30.0
# The server sends a sign of life every 15 s; a stream that is silent for longer is broken.
_STREAM_SILENCE_S = 45.0

# What to say of a code that this version does not know: what its HTTP status says.
_BY_STATUS = {
    400: ErrorCode.VALIDATION_FAILED,
    401: ErrorCode.TOKEN_INVALID,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    429: ErrorCode.TOO_MANY_STREAMS,
    503: ErrorCode.NOT_READY,
}


class Client:
    """Requests to one server with one token. JSON comes back as Python values, unchanged.

    Every fault is a `DorkError`: the server's own code for a refusal; `not_running` if nothing answers, or
    something that is no DorkOS server; `not_ready` if it does not answer in time; and `outcome_unknown` if
    the answer to a change was lost, since the change may have happened.
    """

    def __init__(self, target: Target) -> None:
        """Connects on first use."""
        self._url = target.url
        try:
            self._http = httpx.Client(
                base_url=target.url,
                headers={"Authorization": f"Bearer {target.token}", "User-Agent": f"dorkos/{__version__}"},
                timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
                # No proxy of the environment: a token for the server next door must not pass through one.
                trust_env=False,
                verify=trust(target.url),
            )
            self._http.build_request("GET", "/")  # Some addresses only fail when they are used.
        except (httpx.InvalidURL, UnicodeError) as fault:
            raise DorkError(
                ErrorCode.USAGE, f"{target.url!r} is not the address of a server: {fault}."
            ) from fault

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    def get(self, path: str, **query: QueryValue) -> Any:
        """Read. Query values of None are left out."""
        return self._request("GET", path, query=query)

    def page(self, path: str, **query: QueryValue) -> tuple[Any, str | None]:
        """Read a page of a list, and where the next page begins; None if this is the last."""
        response = self._answer("GET", path, query=query)
        return _document(response, self._url), response.headers.get("x-next-cursor")

    def post(self, path: str, body: Mapping[str, object] | None = None, *, wait_s: float = 0.0) -> Any:
        """Change something, or ask for it. `wait_s` is how long the server may take on purpose."""
        return self._request("POST", path, body=body or {}, wait_s=wait_s)

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        """Change some fields."""
        return self._request("PATCH", path, body=body)

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        """Have it so."""
        return self._request("PUT", path, body=body)

    def delete(self, path: str) -> Any:
        """Remove it."""
        return self._request("DELETE", path)

    @contextmanager
    def stream(
        self, path: str, *, last_id: str | None = None, **query: QueryValue
    ) -> Iterator[Iterator[ServerEvent]]:
        """The server's events from `last_id` on. The iterator ends when the server ends the stream.

        Raises `not_running` while it is read if the connection breaks.
        """
        with self._events("GET", path, last_id=last_id, query=query) as events:
            yield events

    @contextmanager
    def stream_answer(self, path: str, body: Mapping[str, object]) -> Iterator[Iterator[ServerEvent]]:
        """The answer to a question that changes nothing, as events; else like `stream`."""
        check_storable(body)
        with self._events("POST", path, body=body) as events:
            yield events

    @contextmanager
    def _events(
        self,
        method: str,
        path: str,
        *,
        last_id: str | None = None,
        query: Mapping[str, QueryValue] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Iterator[Iterator[ServerEvent]]:
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        request = self._http.build_request(
            method,
            path,
            params=_present(query or {}),
            json=body,
            headers=headers,
            timeout=httpx.Timeout(_STREAM_SILENCE_S, connect=_CONNECT_S),
        )
        with self._faults(changes=False):
            response = self._http.send(request, stream=True)
            try:
                if response.is_error:
                    response.read()
                    raise refusal_of(response, self._url)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise _stranger(self._url)
                yield read_events(response.iter_bytes())
            finally:
                response.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        return _document(self._answer(method, path, query=query, body=body, wait_s=wait_s), self._url)

    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
    ) -> httpx.Response:
        # What cannot be stored cannot be encoded either; the server would refuse it with the same code.
        check_storable(body)
        check_storable(query)
        request = self._http.build_request(
            method,
            path,
            params=_present(query or {}),
            json=body,
            timeout=httpx.Timeout(_ANSWER_S + wait_s, connect=_CONNECT_S),
        )
        with self._faults(changes=method != "GET"):
            response = self._http.send(request)
        if response.is_error:
            raise refusal_of(response, self._url)
        return response

    @contextmanager
    def _faults(self, *, changes: bool) -> Iterator[None]:
        """Turn what httpx raises into our codes."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
            raise DorkError(
                ErrorCode.NOT_RUNNING,
                f"No DorkOS server answers at {self._url}.",
                hint="Start one with `dorkos up`, or name another with --url.",
            ) from fault
        except httpx.HTTPError as fault:
            raise self._lost(fault, changes=changes) from fault

    def _lost(self, fault: httpx.HTTPError, *, changes: bool) -> DorkError:
        if changes:
            return DorkError(
                ErrorCode.OUTCOME_UNKNOWN,
                f"The answer of {self._url} was lost ({_reason(fault)}); the change may have happened.",
                hint="Look before you repeat it.",
            )
        if isinstance(fault, httpx.TimeoutException):
            return DorkError(
                ErrorCode.NOT_READY,
                f"{self._url} does not answer in time.",
                hint="The server may be overloaded; its log says more.",
            )
        return DorkError(
            ErrorCode.NOT_RUNNING,
            f"The connection to {self._url} broke ({_reason(fault)}).",
            hint="The server may have stopped; start it with `dorkos up`.",
        )


def refusal_of(response: httpx.Response, url: str) -> DorkError:
    """What the server at `url` said no with; `not_running` if this is no answer of a DorkOS server."""
    try:
        body = response.json()
        message, code = body["error"], body["code"]
    except (ValueError, LookupError, TypeError):
        return _stranger(url)
    details = body.get("details")
    hint = body.get("hint")
    try:
        known = ErrorCode(code)
    except ValueError:
        known = _BY_STATUS.get(response.status_code, ErrorCode.INTERNAL_ERROR)
        details = {"serverCode": code, "details": details}
    return DorkError(known, str(message), hint=hint, details=details)


def _document(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except ValueError as fault:
        raise _stranger(url) from fault


def _stranger(url: str) -> DorkError:
    return DorkError(
        ErrorCode.NOT_RUNNING,
        f"Something answers at {url}, but it is not a DorkOS server.",
        hint="Name the server with --url, or look at what holds that port.",
    )


def trust(url: str) -> ssl.SSLContext:
    """Whom to believe that they are the server at `url`."""
    if url.startswith("https:"):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # Trusts nobody, and spares reading all certificates.


def _present(query: Mapping[str, QueryValue]) -> dict[str, str | int]:
    return {name: value for name, value in query.items() if value is not None}


def _reason(fault: httpx.HTTPError) -> str:
    return str(fault) or type(fault).__name__
