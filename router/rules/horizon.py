"""How old an event may be, how far ahead it may be dated, and how long its answer is remembered."""

from __future__ import annotations

from typing import Literal

from topics.catalog import STREAM_RETENTION_MS

Untimely = Literal["future", "too_old"]

DAY_MS = 24 * 3600 * 1000
#: How old an event may be when the broker gets it: one that is older may be the repeat of a forgotten one.
AGE_MAX_MS = STREAM_RETENTION_MS + DAY_MS
#: How far ahead of the broker's clock an event may be dated.
AHEAD_MAX_MS = DAY_MS
#: How long ids are remembered: an event that is let in twice comes the second time no later than that.
REMEMBER_MS = AGE_MAX_MS + AHEAD_MAX_MS


def untimely(occurred_at_ms: int, now_ms: int, *, for_ever: bool = False) -> Untimely | None:
    """What is wrong with the time of an event that the broker got at ``now_ms``, epoch ms; None for nothing.

    The broker's time of the record, not the reader's, so that whoever reads it again decides the same; where
    it has none (-1) nothing is judged. ``for_ever``: what is kept for ever is never too old.
    """
    if now_ms <= 0:
        return None
    if occurred_at_ms > now_ms + AHEAD_MAX_MS:
        return "future"
    return "too_old" if occurred_at_ms < now_ms - AGE_MAX_MS and not for_ever else None
