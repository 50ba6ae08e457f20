"""What a touch tells: who did something, who was contacted, and when to remind before the window closes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import sha256

from msgspec.structs import replace

from scoring.policy import Policy
from topics.fields import Source
from topics.leads import Lead
from topics.touches import Touch, TouchKind

#: What a guide does for a member, whoever began it.
SERVING: frozenset[TouchKind] = frozenset({"chat", "live", "visit"})
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
#: Reminders are spread over so many minutes, none of them at :00 or :30, when everybody sends.
SPREAD_MIN_M, SPREAD_M, CROWDED_M = 2, 12, 30
#: The channel of the leads that remind.
WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Touched:
    """What is kept of a touch; names are '' for nobody and nothing.

    ``entry`` is its place in the track; ``actor`` the guide who did something; ``contact`` the touch itself
    where the member was contacted; ``came_in`` whether the member did something.
    """

    brand: str
    member_id: str
    at_ms: int
    entry: str
    actor: str
    contact: str
    came_in: bool


def touched(touch: Touch) -> Touched:
    """A touch without a direction is the member's own doing."""
    out = touch.direction == "out"
    acted = touch.guide_id is not None and (out or touch.kind in SERVING)
    sharer = touch.source.sharer_id if touch.source is not None else None
    return Touched(
        touch.brand,
        touch.member_id,
        touch.occurred_at_ms,
        "|".join((touch.touch_id, touch.kind, touch.direction or "", touch.guide_id or "", sharer or "")),
        touch.guide_id or "" if acted else "",
        touch.touch_id if out else "",
        came_in=not out,
    )


def closes_ms(last_in_ms: int, policy: Policy) -> int:
    """When the window to answer closes that the member opened by what they did last."""
    return last_in_ms + policy.window_h * HOUR_MS


def remind_ms(brand: str, member_id: str, last_in_ms: int, policy: Policy) -> int:
    """When to remind: ``window_remind_h`` before the window closes, and some minutes that hang on the member.

    These are 14 at most, and the hours one at least: it is always before the window closes.
    """
    spread = SPREAD_MIN_M + zlib.crc32(f"{brand}/{member_id}".encode()) % SPREAD_M
    before_ms = min(policy.window_remind_h, policy.window_h) * HOUR_MS
    at_ms = closes_ms(last_in_ms, policy) - before_ms + spread * MINUTE_MS
    return at_ms + MINUTE_MS if at_ms // MINUTE_MS % CROWDED_M == 0 else at_ms


def reminder(brand: str, member_id: str, last_in_ms: int, policy: Policy) -> Lead:
    """A lead for nobody but who is responsible; the same for the same window, so that a repeat is one."""
    window = sha256(f"{brand}/{member_id}/{last_in_ms}".encode()).hexdigest()[:24]
    return Lead(
        lead_id=f"w.{window}",
        member_id=member_id,
        brand=brand,
        occurred_at_ms=remind_ms(brand, member_id, last_in_ms, policy),
        source=Source(channel=WINDOW),
        only_owner=True,
    )


def for_store(lead: Lead, store_id: str) -> Lead:
    """The reminder of a member whose guide has left: for whoever serves at the guide's store."""
    return replace(lead, store_id=store_id, only_owner=False)
