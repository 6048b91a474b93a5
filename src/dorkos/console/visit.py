"""A page that is asked for: who asks, for what, and how the page gets its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from dorkos.console.complaints import plainly
from dorkos.console.desk import Desk
from dorkos.console.times import Times
from dorkos.console.words import grouped
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.identity.sessions import form_secret

# Rows of a page, where the list that it is of is asked for as a whole.
ROWS = 100


@dataclass(frozen=True)
class Visit:
    """One request for a page. `form` is what it sent, empty for a page that is only looked at.

    `cursor` is the newest event from before anything was read for the page. Taken any later, an event that
    fell between would count as shown, and the page would keep the older state for good.
    """

    request: Request
    desk: Desk
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    times: Times
    cursor: str

    async def ask(self, name: str, **given: object) -> Any:
        """The answer of an operation; what is None is left out. Input is named as on the wire."""
        present = {key: value for key, value in given.items() if value is not None}
        return await self.desk.ask(self.caller, name, present)

    async def find(self, name: str, identity: str | None) -> Any:
        """What has this id, by the operation that shows one; None for no id, and for what was removed since.

        Any other refusal is raised: what cannot be read at the moment is not gone.
        """
        if not identity:
            return None
        try:
            return await self.ask(name, id=identity)
        except DorkError as refusal:
            if refusal.http_status in (400, 404):  # Of another kind of thing, an id may have another form.
                return None
            raise

    async def send(self, name: str, given: Mapping[str, object]) -> Any:
        """The answer of an operation to exactly this input."""
        return await self.desk.ask(self.caller, name, given)

    def part(self, rows: Sequence[Any]) -> tuple[Sequence[Any], str | None]:
        """Those of a long list that this page shows, and where the next ones are. A page of thousands of rows
        would be of no use to anybody, and slow for everybody."""
        text = self.query.get("offset", "")
        offset = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
        if offset + ROWS >= len(rows):
            return rows[offset:], None
        kept = {name: value for name, value in self.query.items() if name not in ("offset", "done", "of")}
        path: str = self.request.scope["path"]
        return rows[offset : offset + ROWS], GoTo(path, more={**kept, "offset": str(offset + ROWS)}).address

    @property
    def form_secret(self) -> str:
        """What the forms of this page carry; empty for a program that shows a token."""
        session = self.request.state.session
        return "" if session is None else form_secret(session)


@dataclass(frozen=True)
class Page:
    """A template and what it shows. `topics` are those of the events after which it is loaded anew.

    `address` is where a page that answers a form is to be found afterwards: loaded anew it is asked for
    there, so that nothing is sent twice.
    """

    template: str
    title: str
    view: Mapping[str, Any]
    topics: str = ""
    status: int = 200
    address: str = ""


@dataclass(frozen=True)
class Fragment:
    """A part of a page, without what stands around it."""

    template: str
    view: Mapping[str, Any]


@dataclass(frozen=True)
class GoTo:
    """After a change: the page to show next, and a notice (a word of `notices`) to show on it.

    `of` is what the change was made to, if it can be undone.
    """

    path: str
    notice: str = ""
    of: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The address with the notice in its query."""
        said = {"done": self.notice, "of": self.of}
        query = {**{name: value for name, value in said.items() if value}, **self.more}
        return f"{self.path}?{urlencode(query)}" if query else self.path


Shown = Page | Fragment | GoTo


@dataclass(frozen=True)
class Refused:
    """A refusal in the words of a form: one message on top, and one beside each field that it is about."""

    message: str
    hint: str | None
    fields: Mapping[str, str]

    @classmethod
    def of(
        cls,
        refusal: DorkError,
        places: Mapping[ErrorCode, str] | None = None,
        limits: Mapping[str, Callable[[int], str]] | None = None,
    ) -> Refused:
        """The refusal as a form shows it.

        `places` are the fields that codes are about by themselves; `limits` write numbers as fields take
        them.
        """
        given = (refusal.details or {}).get("fieldErrors")
        if isinstance(given, dict) and given:
            fields = {
                name: " ".join(plainly(each, (limits or {}).get(name, grouped)) for each in said)
                for name, said in given.items()
            }
            return cls("Something is not filled in right.", refusal.hint, fields)
        place = (places or {}).get(refusal.code)
        return cls(refusal.message, refusal.hint, {place: refusal.message} if place else {})
