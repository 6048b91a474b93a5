"""Another attempt: after which ends there is one, and how long it waits.

Only runs of due instants are tried again. One that a person or a message started has somebody who sees how
it ended: a person starts it again, and a message is given back to its mailbox. How often is asked of the
schedule as it is when an attempt ends; what is done is what the first attempt was given.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b

from dorkos.pulse.model import Outcome
from dorkos.vocabulary import RunReason, RunState

RETRY_DELAY_MS = 30_000
RETRY_DELAY_MAX_MS = 3_600_000

# Ends that leave nothing behind which might still be at work.
_OVER = frozenset({RunState.FAILED, RunState.TIMEOUT, RunState.INTERRUPTED})
# Ends that do not prove this: somebody may still be doing it.
_UNPROVED = frozenset({RunReason.UNCONFIRMED, RunReason.NO_REPLY})
# Another attempt would meet the same refusal.
_POINTLESS = frozenset({RunReason.TARGET_REMOVED, RunReason.BUDGET_EXCEEDED})


def may_follow(outcome: Outcome, *, repeatable: bool) -> bool:
    """Whether another attempt does no harm after this end, and may end otherwise.

    Never after `cancelled` or `blocked`: somebody decided the one, and is to be asked by the other.
    """
    if outcome.state not in _OVER or outcome.reason in _POINTLESS:
        return False
    return repeatable or outcome.reason not in _UNPROVED


def pause_before(run_id: str, *, attempt: int, retry_delay_ms: int | None) -> timedelta:
    """How long to wait after the end of `attempt`, which was the run `run_id`.

    The delay doubles from one attempt to the next, up to an hour, and up to a quarter of it is added, drawn
    from the id of the run: what failed together does not start together again.
    """
    first = RETRY_DELAY_MS if retry_delay_ms is None else retry_delay_ms
    # The exponent is bounded: an old run must not make a number of a thousand digits.
    delay = min(first * 2 ** min(attempt - 1, 30), RETRY_DELAY_MAX_MS)
    drawn = int.from_bytes(blake2b(run_id.encode(), digest_size=8).digest(), "big")
    return timedelta(milliseconds=delay + drawn % (delay // 4 + 1))
