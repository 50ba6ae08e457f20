"""A member shows interest and wants an answer now."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from topics.fields import (
    AmountFen,
    Count,
    Event,
    Id,
    Latitude,
    Longitude,
    Ms,
    PriceZone,
    Source,
    Tag,
    Text,
    Tier,
)


class Lead(Event, frozen=True):
    """One wish of one member. Identity: (brand, lead, ``lead_id``).

    With ``list_id`` it is a row of a list of customers: (brand, list, ``lead_id``).
    """

    lead_id: Id
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    lat: Latitude | None = None
    lon: Longitude | None = None
    store_id: Id | None = None
    source: Source | None = None
    price_zone: PriceZone | None = None
    needs: Annotated[tuple[Tag, ...], Meta(max_length=16)] = ()
    tier: Tier | None = None
    value_fen: AmountFen | None = None
    sku: Text | None = None
    quantity: Count | None = None
    in_stock: Annotated[tuple[Id, ...], Meta(max_length=64, description="stores that hold the goods")] = ()
    group_id: Id | None = None
    list_id: Id | None = None
    only_owner: Annotated[bool, Meta(description="for nobody but the responsible guide")] = False

    def __post_init__(self) -> None:
        """Refuse half a place."""
        if (self.lat is None) != (self.lon is None):
            raise ValueError("lat, lon: give both or neither")
