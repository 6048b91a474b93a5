"""What is asked of a soak."""

from __future__ import annotations

from dataclasses import dataclass

# Of the whole time: how long a day of retention is, and when everything has reached its age for sure.
_DAY, _SETTLED = 1 / 8, 1 / 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how much. Rates are in messages a second; the second one is part of the first."""

    minutes: float
    rate: float
    over_http: float
    look_s: float
    """Between two looks."""
    due_s: int
    """Between two instants of each schedule."""
    schedules: int = 50
    """One in five of them starts a program."""

    @property
    def day_s(self) -> float:
        """How long a day of retention is."""
        return self.minutes * 60 * _DAY

    @property
    def settled_s(self) -> float:
        """From when on nothing should grow."""
        return self.minutes * 60 * _SETTLED

    @property
    def looks(self) -> int:
        """How often everything is looked at."""
        return round(self.minutes * 60 / self.look_s)

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        return {
            "minutes": self.minutes,
            "messagesPerSecond": self.rate,
            "overHttpPerSecond": self.over_http,
            "lookEverySeconds": self.look_s,
            "dueEverySeconds": self.due_s,
            "schedules": self.schedules,
            "dayOfRetentionSeconds": self.day_s,
            "judgedAfterSeconds": self.settled_s,
        }

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.minutes:g} minutes, asked for {self.rate:g} messages a second, each published, "
            f"claimed and acknowledged; {self.over_http:g} of them over HTTP. A day of retention lasted "
            f"{self.day_s:g} s; judged from {self.settled_s:g} s on."
        )
