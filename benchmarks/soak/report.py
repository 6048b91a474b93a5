"""The report of a soak, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Self

from benchmarks.soak.plan import Plan
from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Trend
from benchmarks.soak.verdict import trends

_DONE = (
    "published",
    "acknowledged",
    "rejected",
    "requests replied",
    "streams opened",
    "bytes followed",
    "visits",
    "discoveries",
)
_SHOWN_ROWS = 100


@dataclass(frozen=True, slots=True)
class Report:
    """One soak from begin to end."""

    machine: Mapping[str, object]
    plan: Plan
    samples: Sequence[Sample]
    trends: Sequence[Trend]
    runs: float
    faults: Mapping[str, int]

    @property
    def grown(self) -> list[Trend]:
        """What is higher at the end than retention explains."""
        return [one for one in self.trends if one.grows]

    @classmethod
    def again(cls, document: Mapping[str, Any]) -> Self:
        """A report as it was told before, judged anew."""
        plan = Plan(
            minutes=document["minutes"],
            rate=document["messagesPerSecond"],
            over_http=document["overHttpPerSecond"],
            look_s=document.get("lookEverySeconds", 10.0),
            due_s=document.get("dueEverySeconds", 10),
        )
        samples = [
            Sample(one["at"], {k: v for k, v in one.items() if k not in ("at", "rows")}, one.get("rows", {}))
            for one in document["samples"]
        ]
        found = trends(samples, after_s=plan.settled_s, day_s=plan.day_s)
        return cls(document["machine"], plan, samples, found, document["runs"], document["faults"])

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "machine": dict(self.machine),
            **self.plan.document(),
            "trends": [one.document() for one in self.trends],
            "runs": self.runs,
            "faults": dict(self.faults),
            "samples": [
                {"at": round(one.at_s, 1), **{name: round(value, 2) for name, value in one.values.items()}}
                | ({"rows": one.rows} if one.rows else {})
                for one in self.samples
            ],
        }

    def text(self) -> str:
        """For people, in Markdown."""
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items() if name != "peers")
        done = ", ".join(f"{name} {self._average(name):,.2f}" for name in _DONE)
        lines = [
            str(self.plan),
            "",
            f"Measured on: {where}.",
            "",
            "| series | median | most | begin of the line | its end | rise | allowed | |",
            "|---|---|---|---|---|---|---|---|",
            *(
                _line(one)
                for one in self.trends
                if not one.name.startswith("rows") or one.grows or one.most >= _SHOWN_ROWS
            ),
            "",
            f"- Done each second: {done}.",
            f"- Runs since the begin: {self.runs:,.0f}.",
            f"- Load of the machine: {self._average('machine load'):.1f}.",
            f"- Processor that the server took: {self._average('processor'):.0f} %.",
            f"- Faults that clients saw: {sum(self.faults.values()) or 'none'}.",
            *(f"  - {times} x `{fault}`" for fault, times in self.faults.items()),
        ]
        return "\n".join(lines) + "\n"

    def _average(self, name: str) -> float:
        return mean([one.values.get(name, 0.0) for one in self.samples] or [0.0])


def _line(one: Trend) -> str:
    numbers = (one.middle, one.most, one.begin, one.end, one.rise, one.allowed)
    verdict = "**grows**" if one.grows else "flat"
    return (
        f"| {one.name} | "
        + " | ".join(f"{value:,.1f} {one.unit}".strip() for value in numbers)
        + f" | {verdict} |"
    )
