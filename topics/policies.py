"""How a brand wants its leads routed: one TOML text, versioned."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from topics.fields import Event, Id, Version


class Policy(Event, frozen=True):
    """Identity: (brand, policy, ``version``); the highest version rules."""

    brand: Id
    version: Version
    toml: Annotated[str, Meta(max_length=60_000)]
