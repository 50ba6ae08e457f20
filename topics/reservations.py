"""A member books a visit to one store at one time."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import AmountFen, Event, Id, Ms, Source, Tag, Tier, Version

ReservationStatus = Literal["booked", "changed", "cancelled", "arrived", "no_show"]


class Reservation(Event, frozen=True):
    """Identity: (brand, reservation, ``reservation_id``); a lower version is late, an equal one repeated."""

    reservation_id: Id
    version: Version
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    store_id: Id
    starts_at_ms: Ms
    ends_at_ms: Ms
    status: ReservationStatus
    service: Tag | None = None
    hold_until_ms: Annotated[Ms, Meta(description="held until then, unless a version confirms")] | None = None
    source: Source | None = None
    needs: Annotated[tuple[Tag, ...], Meta(max_length=16)] = ()
    tier: Tier | None = None
    value_fen: AmountFen | None = None

    def __post_init__(self) -> None:
        """Refuse a visit that ends before it starts."""
        if self.ends_at_ms <= self.starts_at_ms:
            raise ValueError("ends_at_ms: is not after starts_at_ms")
