"""Templates to pages. Jinja2 is loaded with the first page: a server that nobody looks at never needs it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from dorkos.console import words
from dorkos.console.static_files import static_url

if TYPE_CHECKING:
    from jinja2 import Environment

# Nothing inline, nothing from elsewhere, nothing in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # With `no-referrer` browsers would send forms with the Origin `null`, which is refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def html(template: str, view: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """A page. All that is not markup of a template is escaped."""
    text = _environment().get_template(template).render(view)
    # What cannot be encoded was refused at the edges; old rows may hold it all the same.
    body = text.encode("utf-8", "replace")
    return HTMLResponse(body, status_code=status, headers=_HEADERS)


def template_folder() -> Path:
    """Where the templates are."""
    return Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template_folder()),
        autoescape=True,
        finalize=words.shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(static=static_url, count=words.count, number=words.grouped, share=words.share)
    environment.filters.update(words.FILTERS)
    return environment
