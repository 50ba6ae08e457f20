"""What of a member's track can decide about a commission: who did something, shared, or brought them.

An entry is ``kind|id|party|more``: the kind of evidence, the id of the event that told it, whom it is about.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from router.rules.touches import SERVING
from topics.assignments import Assignment
from topics.fields import Source
from topics.touches import Touch

#: The channels of a source whose partner is the group's own e-commerce, and who that is when none is named.
ECOMMERCE = ("ecommerce", "e-commerce", "taobao", "tmall", "jd")
#: States of an assignment that are a deed of its guide.
_DEEDS = {"accepted": "accepted", "contacted": "contacted", "visited": "visit"}


#: What a deed tells of, each remembered apart, so that none pushes out another.
Track = Literal["deed", "share", "origin"]


class Deed(NamedTuple):
    """Something to remember of a member; of deeds and shares the last ones count, of origins the first."""

    brand: str
    member_id: str
    track: Track
    entry: str
    at_ms: int


def of_touch(touch: Touch) -> list[Deed]:
    """What a guide did, and by whom the member came."""
    out = _of_source(touch.brand, touch.member_id, touch.touch_id, touch.source, touch.occurred_at_ms)
    kind = touch.kind if touch.kind in SERVING else "contacted" if touch.direction == "out" else ""
    if kind and touch.guide_id is not None:
        entry = f"{kind}|{touch.touch_id}|{touch.guide_id}|"
        out.append(Deed(touch.brand, touch.member_id, "deed", entry, touch.occurred_at_ms))
    return out


def of_assignment(made: Assignment) -> list[Deed]:
    """What a guide did with a lead; and from its first record, by whom the member came."""
    asked = made.lead or made.reservation
    out = (
        _of_source(made.brand, made.member_id, made.lead_id, asked.source, asked.occurred_at_ms)
        if asked
        else []
    )
    kind = _DEEDS.get(made.state)
    if kind is not None and made.guide_id is not None:
        entry = f"{kind}|{made.lead_id}|{made.guide_id}|"
        out.append(Deed(made.brand, made.member_id, "deed", entry, made.at_ms))
    return out


def _of_source(brand: str, member_id: str, event_id: str, source: Source | None, at_ms: int) -> list[Deed]:
    if source is None:
        return []
    out: list[tuple[Track, str]] = []
    own = (source.channel or "").lower() in ECOMMERCE
    partner = source.partner or (ECOMMERCE[0] if own else None)
    if partner is not None:
        out.append(("origin", f"origin|{event_id}|{partner}|{'ecommerce' if own else 'partner'}"))
    if source.sharer_id is not None and source.sharer_id != member_id:
        out.append(("share", f"share|{event_id}|{source.sharer_id}|"))
    return [Deed(brand, member_id, track, entry, at_ms) for track, entry in out]
