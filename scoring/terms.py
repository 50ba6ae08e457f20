"""What a brand's policy says of commission: who is paid as the group settles today, and how it is shared.

What an order is sold under, `Terms`, is frozen on its postings whole: an old sale is refunded by it.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from topics.fields import AmountFen, BasisPoints, Id, PriceZone, Text, Version
from topics.orders import Order

#: What somebody can be paid for.
Role = Literal["owner", "server", "sharer", "lender", "store", "manager", "team", "ecommerce", "partner"]
ROLES: tuple[Role, ...] = get_args(Role)
#: What a guide or a team can have done for a member.
Effort = Literal["accepted", "contacted", "live", "visit", "chat"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
#: Whom a group can pay today: of these the order itself and the book of bindings tell.
BaseRole = Literal["server", "owner", "store"]
#: What happens to the commission of an order whose member is no customer, from the mildest to the strictest:
#: shared as any other, shared without the member, all to the store, or left as the group settles today.
Effect = Literal["split", "without", "store", "base"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)
Mark = Literal["staff", "competitor", "self_dealing"]
SplitKind = Literal["winner_served", "winner_bound", "fixed_by_role", "effort_weighted"]
#: Roles that evidence gives for a while only; the store and its manager come with the order.
WindowedRole = Literal["owner", "server", "sharer", "lender", "team", "ecommerce", "partner"]

Days = Annotated[int, Meta(ge=0, le=3650)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]

#: Sales are shared by sharers of two levels at most: more is pyramid selling by law.
LEVELS_MAX = 2
_ATTRIBUTION: dict[WindowedRole, int] = {
    "owner": 365,
    "server": 30,
    "sharer": 30,
    "lender": 90,
    "team": 90,
    "ecommerce": 365,
    "partner": 365,
}
_MARKS: dict[Mark, Effect] = {"staff": "without", "competitor": "base", "self_dealing": "without"}


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the policy; stands on postings whole, so that a default can change later."""


class SplitRule(_Part, frozen=True):
    """How the commission of the orders that it names is shared; an empty list of names stands for all."""

    name: Id
    kind: SplitKind
    channels: tuple[Text, ...] = ()
    price_zones: tuple[PriceZone, ...] = ()
    #: Channels and partners of the order's source.
    sources: tuple[Text, ...] = ()
    partners: tuple[Id, ...] = ()
    #: Basis points of the commission by role (fixed), or the weight of a role before what was done (effort).
    shares: dict[Role, BasisPoints] = {}
    #: What a deed adds to the weight of who did it, once a day each.
    efforts: dict[Effort, Weight] = {}
    #: What is left of the sharer's part for who had passed it on to the sharer.
    second_level_bp: BasisPoints = 2000
    caps: dict[Role, BasisPoints] = {}
    floors: dict[Role, BasisPoints] = {}
    #: Who gets what nobody claims: the first of these that is there; if none is, all in proportion.
    unclaimed: tuple[Role, ...] = ()

    def takes(self, order: Order) -> bool:
        """Whether the rule is for this order."""
        source = order.source
        asked = (
            (self.channels, order.channel),
            (self.price_zones, order.price_zone),
            (self.sources, source.channel if source else None),
            (self.partners, source.partner if source else None),
        )
        return all(not names or value in names for names, value in asked)


_DEFAULT = SplitRule(
    name="default",
    kind="effort_weighted",
    shares={
        "owner": 500,
        "server": 3000,
        "sharer": 1000,
        "lender": 500,
        "store": 500,
        "manager": 300,
        "team": 500,
        "ecommerce": 500,
        "partner": 500,
    },
    efforts={"accepted": 200, "contacted": 400, "live": 1000, "visit": 1500, "chat": 300},
    floors={"store": 500},
    caps={"sharer": 2000, "manager": 500, "ecommerce": 1000, "partner": 1000},
)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one order is sold under."""

    version: Version
    rule: SplitRule
    base_order: Annotated[tuple[BaseRole, ...], Meta(min_length=1, max_length=3)]
    attribution: dict[WindowedRole, Days]
    marks: dict[Mark, Effect]
    levels_max: Annotated[int, Meta(ge=0, le=LEVELS_MAX)]
    rights_days: Days


class Commission(_Part, frozen=True):
    """The table ``commission`` of a policy; the default works untuned."""

    #: Who is paid as the group settles today: the first of these that is there.
    base_order: tuple[BaseRole, ...] = ("server", "owner", "store")
    #: How it is shared: the first of these that takes the order, or else the default.
    splits: Annotated[tuple[SplitRule, ...], Meta(max_length=64)] = ()
    default: SplitRule = _DEFAULT
    #: How many days before the sale what gives a role still counts.
    attribution: dict[WindowedRole, Days] = {}
    #: What becomes of the commission when the member is no customer.
    marks: dict[Mark, Effect] = {}
    levels_max: Annotated[int, Meta(ge=0, le=LEVELS_MAX)] = LEVELS_MAX
    #: How long after the sale it can be given back: until then what is earned is pending.
    rights_days: Days = 7
    #: The clock by which a period is a month.
    ledger_utc_offset_h: Annotated[int, Meta(ge=-12, le=14)] = 8
    #: An adjustment above this needs a second person.
    adjust_check_fen: AmountFen = 10_000

    def __post_init__(self) -> None:
        """Fill in what is left at its default."""
        msgspec.structs.force_setattr(self, "attribution", _ATTRIBUTION | self.attribution)
        msgspec.structs.force_setattr(self, "marks", _MARKS | self.marks)

    def terms(self, order: Order, version: int) -> Terms:
        """What this order is sold under, by version ``version`` of the policy."""
        rule = next((rule for rule in self.splits if rule.takes(order)), self.default)
        return Terms(
            version=version,
            rule=rule,
            base_order=self.base_order,
            attribution=self.attribution,
            marks=self.marks,
            levels_max=self.levels_max,
            rights_days=self.rights_days,
        )
