"""HTTP/1.1 as uvicorn speaks it, with our shape for the one answer it writes itself."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.answers import to_bytes

_NOT_HTTP = DorkError(
    ErrorCode.VALIDATION_FAILED,
    "This is not an HTTP request that can be read, or its address and headers are longer than 64 KiB.",
    hint="Put long values into the body.",
)


# A connection that is closed while bytes still arrive is reset, and a reset may overtake the answer.
_LINGER_S = 1.0


class Protocol(H11Protocol):
    """Refuses what is not HTTP in JSON, like everything else."""

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take in what arrives; after a refusal nothing means anything any more."""
        if not self._is_refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that cannot be understood, then close: where the next request begins is unknown."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # In the middle of an answer there is no place for another.
            return
        body = to_bytes(_NOT_HTTP.body())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
