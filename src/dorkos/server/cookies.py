"""The cookie of a browser session, and what a request that carries one has to show besides.

A browser adds a cookie to whatever any page makes it send. `SameSite=Strict` keeps other sites out, but
another port of this machine counts as the same site, so each request must come from a page of ours: by its
Origin, by what the browser says of its site, and, for a change, by a secret that only our pages know.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.sessions import SESSION_LIFETIME, form_secret

FORM_HEADER = "x-dorkos-form"
FORM_FIELD = "form-secret"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(headers: Headers) -> str:
    """Cookies know no ports: two servers on one machine would overwrite each other's under one name."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"dorkos_{port}" if port.isdecimal() else "dorkos"


def session_secret(headers: Headers) -> str | None:
    """The secret in the session's cookie, or None if there is no such cookie."""
    name = cookie_name(headers)
    for pair in "; ".join(headers.getlist("cookie")).split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return None


def set_cookie(headers: Headers, secret: str) -> str:
    """The header value that gives a browser its session."""
    return f"{cookie_name(headers)}={secret}; {_attributes(int(SESSION_LIFETIME.total_seconds()))}"


def clear_cookie(headers: Headers) -> str:
    """The header value that makes a browser forget its session."""
    return f"{cookie_name(headers)}=; {_attributes(0)}"


def check_own_page(method: str, path: str, headers: Headers, secret: str) -> None:
    """Raise `origin_not_allowed` unless this request was made by a page of ours, or typed by a person.

    A change under /api or by MCP also needs the session's form secret in a header, which no plain form can
    set. The pages' own forms carry it as a field instead, which `check_form` looks at.
    """
    site, is_visit = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode") == "navigate"
    if method in _SAFE:
        if site in ("cross-site", "same-site") and not is_visit:
            raise _refused("Pages elsewhere may not read from this server.")
        return
    if site not in (None, "same-origin") or "origin" not in headers:
        raise _refused("This change does not come from a page of this server.")
    if path.startswith(("/api/", "/mcp")):
        check_form(headers.get(FORM_HEADER, ""), secret)


def check_form(presented: str, secret: str) -> None:
    """Raise `origin_not_allowed` unless this is the form secret of the session."""
    if not hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), form_secret(secret).encode()):
        raise _refused("This form is not of a page that this session was given.")


def _attributes(max_age_s: int) -> str:
    return f"Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict"


def _refused(message: str) -> DorkError:
    return DorkError(
        ErrorCode.ORIGIN_NOT_ALLOWED, message, hint="Load the page again and repeat what you wanted to do."
    )
