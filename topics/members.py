"""What the group tells the router about a member; personal data only as ciphertext."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import AmountFen, Count, Event, Id, Tier, Version


class Member(Event, frozen=True):
    """Identity: (brand, member, ``member_id``); the highest version wins; a null value erases."""

    member_id: Id
    brand: Id
    version: Version
    tier: Tier | None = None
    value_fen: AmountFen | None = None
    flags: tuple[Literal["staff", "competitor"], ...] = ()
    merged_into: Id | None = None
    contact_cap: Count | None = None
    contact: (
        Annotated[str, Meta(max_length=684, description="ciphertext of at most 512 bytes, base64")] | None
    ) = None
