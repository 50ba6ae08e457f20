"""Who is responsible for a member: a contract with start, end, reason and evidence."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import BasisPoints, Event, Id, Ms, Text

BindingKind = Literal[
    "bind",
    "unbind",
    "lend",
    "return",
    "transfer_started",
    "transfer_done",
    "transfer_vetoed",
]

#: Kinds that say who the guide is and are meaningless without one.
_NEEDS_GUIDE = ("bind", "lend", "transfer_started", "transfer_done")


class Binding(Event, frozen=True):
    """Identity: (brand, binding, ``command_id``)."""

    command_id: Id
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    kind: BindingKind
    guide_id: Id | None = None
    to_guide_id: Id | None = None
    until_ms: Ms | None = None
    share_bp: BasisPoints | None = None
    reason: Text | None = None
    evidence: Annotated[tuple[Id, ...], Meta(max_length=64)] = ()

    def __post_init__(self) -> None:
        """Refuse a binding to nobody."""
        if self.kind in _NEEDS_GUIDE and self.guide_id is None and self.to_guide_id is None:
            raise ValueError(f"guide_id: is required when kind is {self.kind}")
