"""The track of a member: everything that happened before and between leads."""

from __future__ import annotations

from typing import Literal

from topics.fields import Event, Id, Ms, Source

TouchKind = Literal[
    "view",
    "share",
    "scan",
    "live",
    "chat",
    "message",
    "visit",
    "add_friend",
    "join_group",
    "book",
    "cart",
]


class Touch(Event, frozen=True):
    """Identity: (brand, touch, ``touch_id``)."""

    touch_id: Id
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    kind: TouchKind
    direction: Literal["in", "out"] | None = None
    guide_id: Id | None = None
    store_id: Id | None = None
    group_id: Id | None = None
    source: Source | None = None
