"""The way in and out: a one-time link becomes a cookie, and the cookie ends."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dorkos.console.forms import read_form
from dorkos.console.render import html
from dorkos.server.cookies import clear_cookie, set_cookie
from dorkos.server.sessions import LOGIN_PATH, BrowserSessions

Endpoint = Callable[[Request], Awaitable[Response]]

# A page of this server; `//host` and `/\host` would lead elsewhere.
_OWN_PAGE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
_BROWSERS = ("Firefox", "Edg", "OPR", "Chrome", "Safari")
_SYSTEMS = ("iPhone", "iPad", "Android", "Windows", "Mac OS", "Linux")


def login_endpoint(sessions: BrowserSessions) -> Endpoint:
    """What answers `GET /login`: a link opens a session; without one it says how to get one."""

    async def answer(request: Request) -> Response:
        link = request.query_params.get("link")
        if link is None or request.method != "GET":
            return html("login.html", {"refused": None})
        secret = await sessions.open(link, browser=_browser(request.headers.get("user-agent", "")))
        wanted = request.query_params.get("to", "/")
        # A page that goes on by itself, not a redirect: a browser that came here from another site, as from
        # a mail, would not send a strict cookie along with a redirect.
        answer = html("entered.html", {"to": wanted if _OWN_PAGE.fullmatch(wanted) else "/"})
        answer.headers.append("set-cookie", set_cookie(request.headers, secret))
        return answer

    return answer


def logout_endpoint(sessions: BrowserSessions) -> Endpoint:
    """What answers `POST /logout`: the session ends here and in the database."""

    async def answer(request: Request) -> Response:
        await read_form(request)
        if request.state.session is not None:
            await sessions.end_own(request.state.session)
        answer = RedirectResponse(LOGIN_PATH, status_code=303)
        answer.headers.append("set-cookie", clear_cookie(request.headers))
        return answer

    return answer


def _browser(agent: str) -> str:
    """What a browser calls itself, in two words for a list."""
    name = next((known for known in _BROWSERS if f"{known}/" in agent), "")
    system = next((known for known in _SYSTEMS if known in agent), "")
    full = {"Edg": "Edge", "OPR": "Opera", "Mac OS": "macOS"}
    said = [full.get(word, word) for word in (name, system) if word]
    return " on ".join(said) or "a browser of unknown kind"
