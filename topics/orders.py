"""A sale, or a part of one given back."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import AmountFen, Count, Event, Id, Ms, PriceZone, Source, Text


class OrderLine(Event, frozen=True):
    """One article of an order."""

    sku: Text
    quantity: Count
    amount_fen: AmountFen


class Order(Event, frozen=True):
    """Identity: (brand, order, ``order_id``), for refunds with ``refund_id``; amounts are always positive."""

    order_id: Id
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    status: Literal["paid", "refunded"]
    amount_fen: AmountFen
    commission_fen: AmountFen
    refund_id: Id | None = None
    store_id: Id | None = None
    served_by: Id | None = None
    lead_id: Id | None = None
    source: Source | None = None
    price_zone: PriceZone | None = None
    channel: Text | None = None
    lines: Annotated[tuple[OrderLine, ...], Meta(max_length=256)] = ()

    def __post_init__(self) -> None:
        """A refund has an identity of its own, an order may be refunded in parts; it gives something back."""
        if self.status == "refunded" and self.refund_id is None:
            raise ValueError("refund_id: is required when status is refunded")
        if self.status == "refunded" and not self.amount_fen and not self.commission_fen:
            raise ValueError("amount_fen: a refund of nothing is none")
