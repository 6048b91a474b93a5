"""What a form sent: read with a limit, understood strictly."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.body import read_bytes
from dorkos.server.cookies import FORM_FIELD, check_form

_FORM_BYTES = 1024 * 1024
_FIELDS_MAX = 200

Form = dict[str, str]


async def read_form(request: Request) -> Form:
    """The fields of a form of ours, text trimmed of the carriage returns that browsers add.

    Raises `origin_not_allowed` for a form that is not of a page that this session was given.
    """
    body = await read_bytes(request, limit=_FORM_BYTES)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except (ValueError, UnicodeDecodeError) as fault:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "The form cannot be read.",
            hint="Load the page again and fill it in once more.",
        ) from fault
    form = {name: value.replace("\r\n", "\n") for name, value in pairs}
    session = request.state.session
    if session is not None:  # A program that shows a token is no browser that could be misled.
        check_form(form.pop(FORM_FIELD, ""), session)
    return form
