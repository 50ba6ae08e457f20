"""The field types that all events share: what an id, a time, an amount and a text may be."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

#: Largest integer that survives a JSON reader with double precision numbers.
INTEGER_MAX = 2**53

# The look-ahead matters: `$` alone would let a trailing newline through.
ID_PATTERN = r"^[A-Za-z0-9_.@-]{1,64}(?!\n)$"

Id = Annotated[
    str, Meta(pattern=ID_PATTERN, description="1..64 of A-Z a-z 0-9 _ . @ -", examples=["lead-000001"])
]
Tag = Annotated[str, Meta(min_length=1, max_length=64, description="a service, skill or need")]
Text = Annotated[str, Meta(max_length=200, description="text for people; never part of a key")]
QueueName = Annotated[str, Meta(min_length=1, max_length=700, description="a market, or a store in it")]
Ms = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="epoch milliseconds, UTC")]
Fen = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX, description="integer fen, 1/100 yuan")]
AmountFen = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="integer fen, not negative")]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Version = Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="grows with every change; the highest wins")]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000, description="1/100 of a percent")]
Latitude = Annotated[float, Meta(ge=-90, le=90, description="WGS-84 degrees")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="WGS-84 degrees")]

Tier = Literal["vip", "repeat", "new", "prospect"]
PriceZone = Literal["full", "special"]
RequestKind = Literal["lead", "reservation", "list"]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event and every part of one is: immutable, by name; unknown fields are ignored."""


class Source(Event, frozen=True):
    """Where a lead, touch or order came from; the partner keeps sight of it along the whole chain."""

    channel: Text | None = None
    partner: Id | None = None
    campaign: Text | None = None
    sharer_id: Id | None = None
    touch_id: Id | None = None


class Period(Event, frozen=True):
    """A half-open span of time, ``from_ms <= t < to_ms``."""

    from_ms: Ms
    to_ms: Ms

    def __post_init__(self) -> None:
        """Refuse a span that ends before it starts."""
        if self.to_ms < self.from_ms:
            raise ValueError("to_ms: is before from_ms")
