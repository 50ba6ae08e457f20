"""The stores of a group."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import Count, Event, Id, Latitude, Longitude, Tag, Text, Version

StoreKind = Literal["full_price", "outlet", "franchise", "partner", "hq"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
#: Opening and closing, ``09:00-21:30``; closing after midnight is written as more than 24 hours.
Hours = Annotated[str, Meta(pattern=r"^[0-4][0-9]:[0-5][0-9]-[0-4][0-9]:[0-5][0-9](?!\n)$")]
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?!\n)$")]


class Store(Event, frozen=True):
    """Identity: (brand, store, ``store_id``); the highest version wins; a null value closes it for good.

    ``market`` names the cell the store belongs to (a city is natural; absent: one cell for the brand).
    """

    store_id: Id
    brand: Id
    version: Version
    lat: Latitude
    lon: Longitude
    kind: StoreKind
    active: bool
    market: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    name: Text | None = None
    region: Text | None = None
    services: Annotated[tuple[Tag, ...], Meta(max_length=64)] = ()
    hours: dict[Weekday, Hours] = {}
    closed_days: Annotated[tuple[Day, ...], Meta(max_length=366)] = ()
    timezone: Annotated[str, Meta(max_length=64)] | None = None
    slot_minutes: Annotated[int, Meta(ge=1, le=1440)] | None = None
    slots: dict[Tag, Count] = {}

    def __post_init__(self) -> None:
        """Refuse a market that would be taken for none."""
        if self.market == "-":
            raise ValueError("market: '-' stands for no market; leave the field out")
