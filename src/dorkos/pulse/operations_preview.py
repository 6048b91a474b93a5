"""Looking at when a trigger would be due, before there is a schedule."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Operation, Wire
from dorkos.pulse.service import PulseService
from dorkos.pulse.triggers import cron_words, read_instant, read_trigger
from dorkos.pulse.wire import Text
from dorkos.pulse.zones import load_zone
from dorkos.storable import check_storable
from dorkos.vocabulary import Scope


class PreviewQuery(Wire):
    """A trigger, and from when on to look."""

    cron: Text = Field(description="A cron expression, `@every 15m`, `@at <instant>` or `@manual`.")
    timezone: Text | None = Field(None, description="IANA zone; without one that of `scheduler.timezone`.")
    after: Text | None = Field(None, description="An instant in ISO 8601, instead of now.")
    count: int = Field(5, ge=1, le=100)


class PreviewOut(Wire):
    """The next instants in UTC, and the zone that they were computed in."""

    cron: str
    timezone: str | None
    resolved_timezone: str
    next_runs: list[str]


async def preview(pulse: PulseService, _caller: Caller, asked: PreviewQuery) -> PreviewOut:
    """When a trigger would be due. Refuses what a schedule with it would be refused for."""
    check_storable([text for text in (asked.cron, asked.timezone) if text])
    written = read_trigger(asked.cron)
    zone = load_zone(asked.timezone).key if asked.timezone else None
    after = read_instant(asked.after) if asked.after else None
    coming = await pulse.preview_trigger(written, zone, after=after, count=asked.count)
    return PreviewOut(
        cron=cron_words(written),
        timezone=zone,
        resolved_timezone=zone or pulse.zones.inherited.key,
        next_runs=[iso(instant) for instant in coming],
    )


PREVIEW: Operation[PulseService, Any, Any] = Operation(
    "pulse.preview",
    "Show when a trigger would be due",
    "pulse",
    "GET",
    "/api/pulse/preview",
    Scope.OBSERVE,
    PreviewQuery,
    PreviewOut,
    preview,
    mcp=McpTool(
        "preview_schedule",
        "Show when a cron expression or an interval would be due, without storing a schedule.",
        read_only=True,
        idempotent=True,
    ),
)
