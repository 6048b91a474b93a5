"""The console as routes of the server's application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dorkos import __version__
from dorkos.console import login
from dorkos.console.desk import Desk
from dorkos.console.forms import read_form
from dorkos.console.names import names_in
from dorkos.console.notices import NOTICES, undo
from dorkos.console.render import html
from dorkos.console.routes import (
    adapters,
    database,
    inbox,
    mesh,
    overview,
    pulse,
    relay,
    schedule_form,
    search,
)
from dorkos.console.static_files import static_endpoint
from dorkos.console.times import Times
from dorkos.console.visit import Fragment, GoTo, Page, Shown, Visit
from dorkos.server.address import path_values, query_values
from dorkos.server.auth import caller_of_request
from dorkos.server.sessions import LOGIN_PATH, BrowserSessions
from dorkos.vocabulary import ApprovalStatus, Scope

Handler = Callable[[Visit], Awaitable[Shown]]

_ZONE_COOKIE = "dorkos_zone"


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A page: GET for one that is looked at, POST for a change."""

    method: str
    path: str
    handler: Handler


GROUPS = (
    overview.ROUTES,
    schedule_form.ROUTES,  # Before `pulse`, whose addresses with parameters would take theirs.
    pulse.ROUTES,
    inbox.ROUTES,
    mesh.ROUTES,
    relay.ROUTES,
    adapters.ROUTES,
    database.ROUTES,
    search.ROUTES,
)


def add_console(app: Starlette, desk: Desk, sessions: BrowserSessions) -> None:
    """Put the pages, their files, and the way in and out, into the application."""
    app.add_route("/static/{name:path}", static_endpoint)
    app.add_route(LOGIN_PATH, login.login_endpoint(sessions))
    app.add_route("/logout", login.logout_endpoint(sessions), methods=["POST"])
    for method, path, handler in (entry for group in GROUPS for entry in group):
        app.add_route(path, page_endpoint(handler, desk), methods=[method])


def page_endpoint(handler: Handler, desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one page: a GET shows it, a POST changes something and says where to go on."""

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request)
        caller.require(Scope.OBSERVE)
        visit = Visit(
            cursor=str(desk.feed.head),
            request=request,
            desk=desk,
            caller=caller,
            path=path_values(request.path_params),
            query=query_values(request.scope["query_string"]),
            form=await read_form(request) if request.method == "POST" else {},
            times=Times(desk.clock.now(), _zone_of(request)),
        )
        return await respond(visit, await handler(visit))

    return answer


async def respond(visit: Visit, shown: Shown) -> Response:
    """What a handler decided on, as an answer."""
    if isinstance(shown, GoTo):
        return RedirectResponse(shown.address, status_code=303)
    if isinstance(shown, Fragment):
        view = {**shown.view, "times": visit.times, "form_secret": visit.form_secret}
        return html(shown.template, view)
    return html(shown.template, {**shown.view, **await _frame(visit, shown)}, status=shown.status)


async def _frame(visit: Visit, page: Page) -> dict[str, object]:
    """What stands on every page around its own part."""
    waiting, fleet, names = await asyncio.gather(
        visit.ask("pulse.approvals.list", status=ApprovalStatus.PENDING.value, limit=100),
        visit.ask("fleet.show"),
        names_in(visit, page.view),
    )
    return {
        "title": _named(page.title, names),
        "called": names,
        "times": visit.times,
        "cursor": visit.cursor,
        "address": page.address if visit.request.method == "POST" else "",
        "section": visit.request.scope["path"].split("/")[1],
        "fleet": fleet,
        "inbox_count": len(waiting),
        "form_secret": visit.form_secret,
        "operates": visit.caller.is_operator,
        "notice": NOTICES.get(visit.query.get("done", "")),
        "undo": undo(visit.query.get("done", ""), visit.query.get("of", "")),
        "traces": visit.desk.knows("relay.chain"),
        "version": __version__,
    }


def _named(title: str, names: Mapping[str, str]) -> str:
    for address, name in names.items():
        title = title.replace(address, name)
    return title


def _zone_of(request: Request) -> str | None:
    value = request.cookies.get(_ZONE_COOKIE)
    return unquote(value) if value else None
