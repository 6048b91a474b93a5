"""A browser's way in and out: one-time link, cookie, and what a request with one must show besides."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.sessions import form_secret
from dorkos.server.cookies import check_form
from tests.server.kit import Served
from tests.server.test_auth import refused

LOOK = "/api/shelf/items/7"
ADD = "/api/shelf/items"
ITEM = {"displayName": "a"}


async def link_of(served: Served) -> str:
    """A new link, as `dorkos open` asks for it."""
    answer = await served.client.post("/api/logins/links")
    assert answer.status_code == 201
    path: str = answer.json()["path"]
    return path


async def logged_in(served: Served, browser: httpx.AsyncClient) -> str:
    """Follow a new link; returns the cookie's secret."""
    answer = await browser.get(await link_of(served))
    assert answer.status_code == 200
    [secret] = browser.cookies.values()
    return str(secret)


def own_page(served: Served, secret: str, **more: str) -> dict[str, str]:
    """What a page of ours sends along with a change."""
    origin = {"Origin": served.http.url, "Sec-Fetch-Site": "same-origin"}
    return {**origin, "X-DorkOS-Form": form_secret(secret), **more}


async def test_a_link_logs_one_browser_in_once(served: Served) -> None:
    """The second browser that follows it is refused, and gets no cookie."""
    async with served.stranger() as first, served.stranger() as second:
        link = await link_of(served)
        assert (await first.get(link)).status_code == 200
        assert (await first.get(LOOK)).status_code == 200
        answer = await second.get(link)
        refused(answer, 401, "link_invalid")
        assert "set-cookie" not in answer.headers
        refused(await second.get(LOOK), 401, "token_missing")
    assert [caller.is_operator for caller in served.shelf.callers] == [True]


async def test_of_two_browsers_at_once_one_gets_in(served: Served) -> None:
    """The link is used up in the same step in which it is looked at."""
    async with served.stranger() as stranger:
        link = await link_of(served)
        answers = await asyncio.gather(*(stranger.get(link) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 7]


async def test_a_link_ends_after_five_minutes(served: Served) -> None:
    """Unused as it is."""
    async with served.stranger() as browser:
        link = await link_of(served)
        served.clock.advance(timedelta(minutes=5))
        refused(await browser.get(link), 401, "link_invalid")


async def test_the_cookie_is_kept_from_scripts_and_other_sites_and_named_for_the_port(served: Served) -> None:
    """Two servers on one machine would overwrite each other's under one name."""
    async with served.stranger() as browser:
        header = (await browser.get(await link_of(served))).headers["set-cookie"]
    name, _, attributes = header.partition("=")
    assert name == f"dorkos_{httpx.URL(served.http.url).port}"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes.split("; "))


async def test_neither_secret_is_stored_and_none_stands_in_for_another(served: Served) -> None:
    """A copy of the database is no set of keys; a link is no cookie, and neither is a bearer token."""
    async with served.stranger() as browser:
        path = await link_of(served)
        link = path.partition("link=")[2]
        await browser.get(path)
        [secret] = browser.cookies.values()
        name = next(iter(browser.cookies.keys()))
    hashes = await served.db.read(lambda c: " ".join(c.execute(sa.select(tokens.c.hash)).scalars()))
    assert link not in hashes
    assert secret not in hashes
    for wrong in (link, secret):
        async with served.stranger(Authorization=f"Bearer {wrong}") as stranger:
            refused(await stranger.get(LOOK), 401, "token_invalid")
    async with served.stranger(Cookie=f"{name}={link}") as stranger:
        refused(await stranger.get(LOOK), 401, "token_invalid")
    async with served.stranger() as stranger:
        refused(await stranger.get(f"/login?link={secret}"), 401, "link_invalid")


async def test_a_session_ends_after_thirty_days(served: Served) -> None:
    """From that instant its cookie is refused, not ignored."""
    async with served.stranger() as browser:
        await logged_in(served, browser)
        served.clock.advance(timedelta(days=30) - timedelta(seconds=1))
        assert (await browser.get(LOOK)).status_code == 200
        served.clock.advance(timedelta(seconds=1))
        refused(await browser.get(LOOK), 401, "token_invalid")


async def test_a_session_can_be_ended_by_the_operator(served: Served) -> None:
    """At once, by its id in the list; a second time there is nothing to end."""
    async with served.stranger(**{"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/150.0"}) as browser:
        await logged_in(served, browser)
        [listed] = (await served.client.get("/api/logins")).json()
        assert listed["name"] == "Firefox on Linux"
        assert (await served.client.delete(f"/api/logins/{listed['id']}")).json() == {"success": True}
        refused(await browser.get(LOOK), 401, "token_invalid")
    assert (await served.client.get("/api/logins")).json() == []
    refused(await served.client.delete(f"/api/logins/{listed['id']}"), 404, "session_not_found")


async def test_only_sessions_can_be_ended_as_sessions(served: Served) -> None:
    """The row of a link is none."""
    await link_of(served)
    row = await served.db.read(lambda c: c.execute(sa.select(tokens.c.id)).scalar_one())
    refused(await served.client.delete(f"/api/logins/{row}"), 404, "session_not_found")


async def test_last_use_is_written_down_every_few_minutes(served: Served) -> None:
    """Not with each request: a page view is not worth a commit."""

    async def last_use() -> str:
        [listed] = (await served.client.get("/api/logins")).json()
        return str(listed["lastUsedAt"])

    async with served.stranger() as browser:
        await logged_in(served, browser)
        opened = await last_use()
        served.clock.advance(timedelta(minutes=4))
        await browser.get(LOOK)
        assert opened == await last_use()
        served.clock.advance(timedelta(minutes=1))
        await browser.get(LOOK)
        assert opened != await last_use()


async def test_a_change_of_a_page_of_ours_reaches_the_operation(served: Served) -> None:
    """With its Origin and the form secret of its session."""
    async with served.stranger() as browser:
        secret = await logged_in(served, browser)
        answer = await browser.post(ADD, json=ITEM, headers=own_page(served, secret))
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("without", "instead"),
    [
        ("Origin", None),
        ("X-DorkOS-Form", None),
        ("X-DorkOS-Form", "0" * 64),
        ("X-DorkOS-Form", form_secret("another session")),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "none"),
    ],
)
async def test_a_change_that_does_not_prove_where_it_comes_from_is_refused(
    served: Served, without: str, instead: str | None
) -> None:
    """Another port of this machine counts as the same site, so a strict cookie alone would let it in."""
    async with served.stranger() as browser:
        secret = await logged_in(served, browser)
        headers = own_page(served, secret)
        del headers[without]
        if instead is not None:
            headers[without] = instead
        refused(await browser.post(ADD, json=ITEM, headers=headers), 403, "origin_not_allowed")
        refused(await browser.post("/mcp", json={}, headers=headers), 403, "origin_not_allowed")
    assert served.shelf.asked == []


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_a_page_elsewhere_may_lead_here_but_not_read_here(served: Served, site: str) -> None:
    """A link in a page of another port works, its scripts and pictures get nothing."""
    async with served.stranger() as browser:
        await logged_in(served, browser)
        loaded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        refused(await browser.get(LOOK, headers=loaded), 403, "origin_not_allowed")
        followed = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert (await browser.get(LOOK, headers=followed)).status_code == 200


async def test_a_token_wins_over_a_cookie(served: Served) -> None:
    """A program that shows both is asked for neither Origin nor form."""
    async with served.stranger() as browser:
        await logged_in(served, browser)
        headers = {"Authorization": served.client.headers["Authorization"]}
        assert (await browser.post(ADD, json=ITEM, headers=headers)).status_code == 201
        headers = {"Authorization": "Bearer dork_wrong"}
        refused(await browser.get(LOOK, headers=headers), 401, "token_invalid")


async def test_logging_out_ends_the_session_and_the_cookie(served: Served) -> None:
    """A form of another session does not do it."""
    async with served.stranger() as browser:
        secret = await logged_in(served, browser)
        name = next(iter(browser.cookies.keys()))
        headers = own_page(served, secret)
        wrong = await browser.post("/logout", data={"form-secret": form_secret("other")}, headers=headers)
        refused(wrong, 403, "origin_not_allowed")
        answer = await browser.post("/logout", data={"form-secret": form_secret(secret)}, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert not browser.cookies
    async with served.stranger(Cookie=f"{name}={secret}") as stranger:
        refused(await stranger.get(LOOK), 401, "token_invalid")


@pytest.mark.parametrize("wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "/a b", ""])
async def test_a_login_leads_to_pages_of_this_server_only(served: Served, wanted: str) -> None:
    """Whoever carries a link over may have been handed a longer one."""
    async with served.stranger() as browser:
        path = await link_of(served)
        answer = await browser.get(path, params={"link": path.partition("link=")[2], "to": wanted})
    assert 'content="0;url=/"' in answer.text
    assert "evil" not in answer.text


async def test_a_person_without_a_session_sees_how_to_log_in(served: Served) -> None:
    """A page for whoever asks for pages, with the same status; programs keep getting JSON."""
    async with served.stranger(Accept="text/html") as browser:
        answer = await browser.get("/")
        assert (answer.status_code, "dorkos open" in answer.text) == (401, True)
        refused(await browser.get("/api/status"), 401, "token_missing")
        await logged_in(served, browser)
        assert "text/html" in (await browser.get("/api/docs")).headers["content-type"]
        [session] = (await served.client.get("/api/logins")).json()
        await served.client.delete(f"/api/logins/{session['id']}")
        ended = await browser.get("/")
        assert (ended.status_code, "session has ended" in ended.text) == (401, True)
        assert not browser.cookies


def test_a_form_secret_is_of_its_session_alone() -> None:
    """It is derived from the cookie's secret, which it does not give away."""
    assert form_secret("a") != form_secret("b")
    check_form(form_secret("a"), "a")
    with pytest.raises(DorkError) as refusal:
        check_form("ÿ\ud800", "a")
    assert refusal.value.code == ErrorCode.ORIGIN_NOT_ALLOWED
