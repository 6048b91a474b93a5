"""Is it alive, and is it fit for work? Two questions with two answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import ERRORS, DorkError, ErrorCode
from dorkos.server.answers import json_answer, to_bytes
from dorkos.server.auth import caller_of_request
from dorkos.vocabulary import Scope

log = logging.getLogger("dorkos.server")

_CHECK_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One part that must work. `check` returns a detail worth showing, or None; it raises if it does not."""

    name: str
    check: Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is."""

    name: str
    ok: bool
    detail: str | None

    def wire(self) -> dict[str, object]:
        """The same in an answer."""
        return {"name": self.name, "ok": self.ok, **({} if self.detail is None else {"detail": self.detail})}


def health_endpoint(version: str, uptime: Callable[[], float]) -> Callable[[Request], Awaitable[Response]]:
    """What answers `GET /api/health`: the process runs and its loop turns. It asks nothing else."""

    async def answer(_request: Request) -> Response:
        return json_answer(to_bytes({"status": "ok", "version": version, "uptime": round(uptime(), 3)}))

    return answer


def ready_endpoint(checks: Sequence[ReadinessCheck]) -> Callable[[Request], Awaitable[Response]]:
    """What answers `GET /api/ready`: 200 when every part works, else 503 that says which does not."""

    async def answer(request: Request) -> Response:
        caller_of_request(request).require(Scope.OBSERVE)
        findings = await look_at(checks)
        body: dict[str, object] = {"status": "ready", "checks": [finding.wire() for finding in findings]}
        broken = [f"{finding.name}: {finding.detail}" for finding in findings if not finding.ok]
        if not broken:
            return json_answer(to_bytes(body))
        # The shape of every error, and the checks besides.
        code = ErrorCode.NOT_READY
        body |= {"status": "not_ready", "error": f"Not ready: {'; '.join(broken)}", "code": code.value}
        return json_answer(to_bytes(body), ERRORS[code].http_status)

    return answer


async def look_at(checks: Sequence[ReadinessCheck]) -> list[Finding]:
    """How each part is, asked at once; one that does not answer in time does not work."""
    return await asyncio.gather(*[_look(check) for check in checks])


async def _look(check: ReadinessCheck) -> Finding:
    try:
        async with asyncio.timeout(_CHECK_WITHIN_S):
            return Finding(check.name, ok=True, detail=await check.check())
    except DorkError as refusal:
        return Finding(check.name, ok=False, detail=refusal.message)
    except TimeoutError:
        return Finding(check.name, ok=False, detail=f"no answer within {_CHECK_WITHIN_S:.0f} s")
    except Exception:  # One broken part must not hide how the others are.
        log.exception("the readiness check of %s failed", check.name)
        return Finding(check.name, ok=False, detail="it failed; the log has the details")
