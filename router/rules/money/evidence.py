"""What a posting carries so that it can be recomputed alone: the sale, its terms, the evidence, the parties.

`inputs_of` reads the JSON object ``inputs`` of a posting; what it is made of is frozen at the sale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from scoring.terms import Terms
from topics.fields import ID_PATTERN, AmountFen, BasisPoints, Id, Ms, PriceZone, Source, Text

P = TypeVar("P")

#: Who holds what nobody else can claim: role and party.
GROUP = "group"
#: Roles whose parties have ids of their own; those of all other roles (guides, teams, members) share theirs.
_APART: dict[str, Literal["store", "partner"]] = {
    "store": "store",
    "partner": "partner",
    "ecommerce": "partner",
}
#: How many refunds an order can have.
REFUNDS_MAX = 1024

#: What evidence can be of: contracts about the member, deeds for the member, who brought the member, and
#: what is known of the member. In the brackets: who is ``party``, and who ``of``.
EvidenceKind = Literal[
    "binding",  # (the guide who is bound)
    "loan",  # (who serves while it lasts, of the guide who lends)
    "delegation",  # (the team, of the guide whose members it runs)
    "accepted",  # (the guide or team who did it, here and in the next four)
    "contacted",
    "live",
    "visit",
    "chat",
    "share",  # (who shared; at level 2, who passed it on, of the sharer at level 1)
    "origin",  # (who supplied the member: a partner or e-commerce)
    "staff",  # (the member)
    "competitor",  # (the member)
]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened; ``id`` is that of the event that told it.

    Contracts (binding, loan, delegation) run from ``at_ms`` until before ``until_ms``, None for no end.
    ``share_bp`` is what a lender keeps, or a team gets, of the commission where that was agreed.
    """

    kind: EvidenceKind
    id: Id
    at_ms: Ms
    party: Id
    of: Id | None = None
    until_ms: Ms | None = None
    share_bp: BasisPoints | None = None
    level: Annotated[int, Meta(ge=1, le=64)] = 1


class Party(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who somebody was at the sale; for who is not told the defaults hold.

    The ``manager`` of the order's store is paid as such; who is a ``team`` or ``ecommerce`` is paid as that.
    """

    kind: Literal["guide", "manager", "team", "store", "partner", "ecommerce", "member"] = "guide"
    store_id: Id | None = None
    region: Text | None = None


class Sale(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of an order decides about its commission."""

    order_id: Id
    member_id: Id
    occurred_at_ms: Ms
    amount_fen: AmountFen
    commission_fen: AmountFen
    store_id: Id | None = None
    served_by: Id | None = None
    lead_id: Id | None = None
    source: Source | None = None
    price_zone: PriceZone | None = None
    channel: Text | None = None


#: An id; with the word of its role before it where the id alone is somebody else's: ``store:1001``.
PartyName = Annotated[str, Meta(pattern=ID_PATTERN.replace("^", "^((store|partner):)?", 1))]


class Inputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``refunds`` (id, commission in fen) and ``of`` (the postings it reverses) stand on reversals only."""

    order: Sale
    terms: Terms
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=1024)] = ()
    parties: Annotated[dict[PartyName, Party], Meta(max_length=1024)] = {}
    of: Annotated[tuple[Id, ...], Meta(max_length=1024)] = ()
    refunds: Annotated[tuple[tuple[Id, AmountFen], ...], Meta(max_length=REFUNDS_MAX)] = ()

    def __post_init__(self) -> None:
        """No more can be given back than was sold, and nothing twice."""
        if not self.refunds:
            return
        for refund_id, times in Counter(refund_id for refund_id, _ in self.refunds).items():
            if times > 1:
                raise ValueError(f"refunds: {refund_id} stands twice")
        back = sum(fen for _, fen in self.refunds)
        if back > self.order.commission_fen:
            raise ValueError(f"refunds: {back} fen of {self.order.commission_fen}")


def inputs_of(inputs: Mapping[str, Any]) -> Inputs:
    """Read and check the ``inputs`` of a posting.

    Raises:
        ValueError: naming the field that is wrong.

    """
    if not isinstance(inputs, Mapping):
        raise ValueError(f"inputs: are an object, not {type(inputs).__name__}")  # noqa: TRY004 - bad input
    return msgspec.convert(inputs, Inputs)


def holder(role: str) -> Literal["guide", "store", "partner"]:
    """Of which numbering the party of a role is: two of one id are the same only within one."""
    return _APART.get(role, "guide")


def apart(role: str, party: str) -> str:
    """How a party stands among the parties where its id alone is somebody else's."""
    return f"{holder(role)}:{party}"


def known_as(parties: Mapping[str, P], role: str, party: str) -> P | None:
    """What is told of the party of a role; None if nothing is."""
    return parties.get(apart(role, party), parties.get(party))


def frozen(inputs: Inputs) -> dict[str, Any]:
    """The JSON object that a posting carries."""
    made: dict[str, Any] = msgspec.to_builtins(inputs)
    return made
