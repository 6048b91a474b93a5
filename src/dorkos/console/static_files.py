"""Style sheets, scripts and icons: read once, named by their content, and open to everybody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import DorkError, ErrorCode

FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is served."""

    body: bytes
    type: str
    digest: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Every file in the folder by its path there. Nothing else is ever served, whatever is asked for."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            body = path.read_bytes()
            name = path.relative_to(FOLDER).as_posix()
            found[name] = StaticFile(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])
    return found


def static_url(name: str) -> str:
    """Where a file is: its content is part of the address, so that a new version is loaded at once."""
    return f"/static/{name}?v={static_files()[name].digest}"


async def static_endpoint(request: Request) -> Response:
    """Answer `GET /static/…`."""
    file = static_files().get(request.path_params["name"])
    if file is None:
        raise DorkError(ErrorCode.NOT_FOUND, "There is no such file.", hint="Load the page again.")
    asked_for = request.query_params.get("v") == file.digest
    headers = {
        "Cache-Control": _FOR_EVER if asked_for else "no-cache",
        "ETag": f'"{file.digest}"',
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.type)
