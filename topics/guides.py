"""The sales guides, and whether they are there."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import BasisPoints, Count, Event, Id, Ms, Period, PriceZone, Tag, Text, Version

SkillLevel = Annotated[int, Meta(ge=1, le=5)]


class Delegation(Event, frozen=True):
    """A guide's members are run by a team of headquarters for a while; revocable."""

    team_id: Id
    from_ms: Ms
    until_ms: Ms
    share_bp: BasisPoints


class Guide(Event, frozen=True):
    """Identity: (brand, guide, ``guide_id``); the highest version wins; a null value removes the guide.

    ``capacity``: open leads at once; ``book_max``: members bound; ``weight``: share of leads among equals.
    """

    guide_id: Id
    brand: Id
    version: Version
    store_id: Id
    active: bool
    name: Text | None = None
    role: Literal["guide", "manager", "hq"] = "guide"
    skills: dict[Tag, SkillLevel] = {}
    capacity: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    book_max: Count | None = None
    level: Annotated[int, Meta(ge=1, le=10)] | None = None
    weight: Annotated[float, Meta(ge=0, le=1000)] | None = None
    price_zones: Annotated[tuple[PriceZone, ...], Meta(max_length=2)] = ()
    shifts: Annotated[tuple[Period, ...], Meta(max_length=64)] = ()
    leave: Annotated[tuple[Period, ...], Meta(max_length=64)] = ()
    prefers: Annotated[tuple[Tag, ...], Meta(max_length=16)] = ()
    delegate: Delegation | None = None


class Presence(Event, frozen=True):
    """Identity: (brand, guide, ``guide_id``); the latest ``occurred_at_ms`` wins."""

    guide_id: Id
    brand: Id
    status: Literal["online", "away", "offline"]
    occurred_at_ms: Ms
    until_ms: Ms | None = None
