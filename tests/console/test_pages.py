"""Every page answers, for a browser that is logged in, with nothing there yet and with a day behind it."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from dorkos.console.render import POLICY
from dorkos.console.site import GROUPS
from tests.cli.terminal import call
from tests.console.addresses import EMPTY, pages
from tests.server_process import ServerProcess

_LOOKS = re.compile(
    "dorkos (?:status|pulse (?:list|show|stats|runs|missed|questions)|approvals (?:list|show)|sessions list|"
    "mesh (?:list|inspect|topology|denied)|db status|"
    "relay (?:messages|endpoints|inbox|trace|rules list|adapters (?:list|show)))(?: |$)"
)

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A browser at a server that has nothing to show."""
    folder = tmp_path_factory.mktemp("empty")
    with ServerProcess(folder / "home", boundary=folder) as server, browser(server) as client:
        yield client


@pytest.fixture(scope="module")
def lived(lived_in: tuple[ServerProcess, dict[str, str]]) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """A browser at a server with a day behind it, and the addresses of its pages."""
    server, ids = lived_in
    with browser(server) as client:
        yield client, pages(ids)


@contextmanager
def browser(server: ServerProcess) -> Iterator[httpx.Client]:
    """What a browser would send, logged in."""
    with server.client() as api:
        link = api.post("/api/logins/links").json()["path"]
    headers = {"Accept": "text/html"}
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=30, trust_env=False, verify=False
    ) as client:
        client.get(link)
        yield client


@pytest.mark.parametrize("address", EMPTY)
def test_a_page_with_nothing_to_show_says_what_to_do_next(empty: httpx.Client, address: str) -> None:
    """No page is blank, and none fails for want of something."""
    answer = empty.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert 'class="empty"' in answer.text or "<form" in answer.text


def test_every_page_shows_what_is_there(lived: tuple[httpx.Client, dict[str, str]]) -> None:
    """With the policy that lets nothing inline and nothing from elsewhere in, and without anything inline."""
    client, addresses = lived
    for name, address in addresses.items():
        answer = client.get(address)
        assert answer.status_code == 200, name
        assert answer.headers["content-security-policy"] == POLICY, name
        tags = re.findall(r"<[a-z][^>]*>", re.sub(r'"[^"]*"', '""', answer.text))
        inline = re.compile(r"<script(?!.*\bsrc=)|<style|\sstyle=|\son\w+=")
        assert not [tag for tag in tags if inline.search(tag)], name
        for place in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
            assert (place.startswith("/") and not place.startswith("//")) or place == "#main", (name, place)


def test_pages_lead_only_to_pages_that_are_there(lived: tuple[httpx.Client, dict[str, str]]) -> None:
    """Every link of every page answers."""
    client, addresses = lived
    links: set[str] = set()
    for address in addresses.values():
        found = re.findall(r'href="(/[^"]*)"', client.get(address).text)
        links.update(link.replace("&amp;", "&") for link in found)
    broken = [link for link in sorted(links) if client.get(link).status_code >= 400]
    assert not broken


def test_commands_that_pages_show_do_what_they_say(
    lived: tuple[httpx.Client, dict[str, str]], lived_in: tuple[ServerProcess, dict[str, str]]
) -> None:
    """Those that only look are typed as they stand there: with the right kind of id, and an answer."""
    client, addresses = lived
    shown = {
        html.unescape(command)
        for address in addresses.values()
        for command in re.findall(r'data-copy="(dorkos [^"]+)"', client.get(address).text)
    }
    looking = sorted(each for each in shown if _LOOKS.match(each) and not re.search(r" [A-Z]+$", each))
    assert len(looking) > 20
    home = {"DORK_HOME": str(lived_in[0].home)}
    failed = {
        each: done.err for each in looking if (done := call(*shlex.split(each)[1:], environment=home)).code
    }
    assert not failed


@pytest.mark.parametrize("given", [{}, {"kind": "?", "to": "?", "priority": "x", "revision": "\u0663"}])
def test_a_form_with_nothing_or_nonsense_in_it_is_refused(empty: httpx.Client, given: dict[str, str]) -> None:
    """Every form there is; it is the sender's fault then, never the server's."""
    page = empty.get("/pulse/new").text
    secret = re.search('name="form-secret" value="([^"]+)"', page)
    assert secret is not None
    headers = {"Origin": str(empty.base_url).rstrip("/")}
    forms = [path for group in GROUPS for method, path, _ in group if method == "POST"]
    assert len(forms) > 25
    told = {}
    for path in forms:
        address = re.sub(r"\{\w+\}", "01JD8Q2M5W7ZC3K9VXN4T6BRAE", path)
        told[path] = empty.post(
            address, data={**given, "form-secret": secret[1]}, headers=headers
        ).status_code
    assert not {path: status for path, status in told.items() if status >= 500}
    assert set(told.values()) >= {400, 404}


def test_who_only_looks_is_offered_nothing_to_press(
    lived: tuple[httpx.Client, dict[str, str]], lived_in: tuple[ServerProcess, dict[str, str]]
) -> None:
    """A token that only reads sees the pages; what it sends all the same is refused."""
    _, addresses = lived
    with lived_in[0].client() as api:
        token = api.post("/api/tokens", json={"name": "reader"}).json()["token"]
    with lived_in[0].client(token) as reader:
        reader.headers["Accept"] = "text/html"
        for name in ("schedule", "adapter", "adapters", "dead-letters", "agent", "database"):
            shown = reader.get(addresses[name])
            assert shown.status_code == 200, name
            assert re.findall('<form method="post" action="(?!/logout)', shown.text) == [], name
        refused = reader.post(f"{addresses['schedule']}/delete")
    assert refused.status_code == 403
    assert "it needs the scope" in refused.text


def test_what_is_not_there_is_told_on_a_page(lived: tuple[httpx.Client, dict[str, str]]) -> None:
    """With the status of its code and a way back."""
    client, _ = lived
    for address in ("/pulse/runs/01JD8Q2M5W7ZC3K9VXN4T6BRAE", "/nothing", "/mesh/agents/nobody"):
        answer = client.get(address)
        assert answer.status_code == 404, address
        assert "text/html" in answer.headers["content-type"]
        assert 'href="/"' in answer.text


_PLAN = {"name": "kept", "prompt": "also kept", "target": "command", "command": "true", "kind": "daily"}
_PLANNED = {**_PLAN, "time": "09:00"}


@pytest.mark.parametrize(
    ("address", "form", "field", "kept"),
    [
        ("/pulse/new", {**_PLAN, "kind": "cron", "cron": "0 0 31 2 *"}, "cron", "also kept"),
        ("/pulse/new", {**_PLAN, "kind": "every", "number": "0"}, "number", "also kept"),
        ("/pulse/new", {**_PLANNED, "kind": "monthly", "day": "99"}, "day", "also kept"),
        ("/pulse/new", {**_PLAN, "kind": "once", "at": "soon"}, "at", "also kept"),
        ("/pulse/new", {**_PLANNED, "timezone": "Mars/Base"}, "timezone", "also kept"),
        ("/pulse/new", {**_PLANNED, "cwd": "/etc"}, "cwd", "also kept"),
        ("/pulse/new", {**_PLANNED, "target": "agent", "agentId": "nobody"}, None, "also kept"),
        ("/pulse/new", {**_PLANNED, "name": "a\0b"}, None, "also kept"),
        ("/pulse/new", {**_PLANNED, "maxRuntime": "9" * 5000 + "s"}, "maxRuntime", "also kept"),
        ("/relay/mailboxes", {"subject": "a b", "description": "kept"}, "subject", "kept"),
        ("/relay/mailboxes", {"subject": "relay.*", "description": "kept"}, "subject", "kept"),
        ("/relay/rules", {"from": "a", "priority": "x", "description": "kept"}, "priority", "kept"),
        ("/mesh/denied", {"path": "/etc", "reason": "kept"}, "path", "kept"),
        ("/relay/send", {"subject": "relay.x", "payload": "a\0b", "replyTo": "kept"}, None, "kept"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(
    empty: httpx.Client, address: str, form: dict[str, str], field: str | None, kept: str
) -> None:
    """On the page of the form, with a word on top as well."""
    answer = sent(empty, address, form)
    assert answer.status_code in {400, 403, 404}
    assert 'role="alert" id="refused"' in answer.text
    assert kept in answer.text
    around = r'name="{}"[^>]*>(?:(?!<input).)*?<p class="wrong"'
    assert field is None or re.search(around.format(field), answer.text, re.DOTALL)


def test_an_edit_of_a_schedule_that_was_deleted_meanwhile_is_not_lost(empty: httpx.Client) -> None:
    """The form comes back as one for a new schedule, which it can be sent as."""
    made = sent(empty, "/pulse/new", _PLANNED).headers["location"].partition("?")[0]
    assert sent(empty, f"{made}/delete", {}).status_code == 303
    answer = sent(empty, f"{made}/edit", {**_PLANNED, "revision": "1"})
    assert answer.status_code == 404
    assert "was deleted while you were editing it" in answer.text
    assert 'action="/pulse/new"' in answer.text
    assert "also kept" in answer.text


def sent(client: httpx.Client, address: str, form: dict[str, str]) -> httpx.Response:
    """The answer to a form of a page, as a browser would send it."""
    secret = re.search('name="form-secret" value="([^"]+)"', client.get("/pulse/new").text)
    assert secret is not None
    headers = {"Origin": str(client.base_url).rstrip("/")}
    return client.post(address, data={**form, "form-secret": secret[1]}, headers=headers)
