"""What a brand's policy says of commission: who is paid as the group settles today, and how it is shared.

What an order is sold under, `Terms`, is frozen on its postings whole: an old sale is refunded by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

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
UtcOffset = Annotated[int, Meta(ge=-12, le=14)]

#: The tables in a policy's ``commission`` and its rules, and the kind of their values.
_TABLES: dict[str, Any] = {
    "attribution": Days,
    "marks": Effect,
    "shares": BasisPoints,
    "efforts": Weight,
    "caps": BasisPoints,
    "floors": BasisPoints,
}
#: Sales are shared by sharers of two levels at most: more is pyramid selling by law.
LEVELS_MAX = 2
WHOLE_BP = 10_000
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
    #: By whose clock the days of this order begin.
    ledger_utc_offset_h: UtcOffset = 8


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
    ledger_utc_offset_h: UtcOffset = 8
    #: An adjustment above this needs a second person.
    adjust_check_fen: AmountFen = 10_000

    def __post_init__(self) -> None:
        """Fill in what is left at its default, and refuse what cannot work or would have no effect."""
        msgspec.structs.force_setattr(self, "attribution", _ATTRIBUTION | self.attribution)
        msgspec.structs.force_setattr(self, "marks", _MARKS | self.marks)
        if len(set(self.base_order)) < max(1, len(self.base_order)):
            raise ValueError("base_order: holds at least one role, none twice")
        named = [(f"splits[{row}]", rule) for row, rule in enumerate(self.splits)]
        for place, rule in (*named, ("default", self.default)):
            for key, wrong in _faults(rule).items():
                if wrong:
                    raise ValueError(f"{place}.{key}: {wrong}")
        names = [rule.name for rule in (*self.splits, self.default)]
        for row, name in enumerate(names[:-1]):
            if name in names[row + 1 :]:
                raise ValueError(f"splits[{row}].name: {name} is the name of another rule")
        asked = (self.default.channels, self.default.price_zones, self.default.sources, self.default.partners)
        if any(asked):
            raise ValueError(
                "default: takes every order, so it names no channels, zones, sources or partners"
            )

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
            ledger_utc_offset_h=self.ledger_utc_offset_h,
        )


def _faults(rule: SplitRule) -> dict[str, str]:
    """What is wrong, by key; '' for nothing. Not asked of a rule on a posting: what was sold stays sold."""
    roles = ("shares", "efforts", "caps", "floors", "unclaimed")
    if rule.kind.startswith("winner"):
        return {key: f"has no effect under {rule.kind}" if getattr(rule, key) else "" for key in roles}
    shares, floors = sum(rule.shares.values()), sum(rule.floors.values())
    capped = [role for role in rule.unclaimed if role in rule.caps]
    crossed = [role for role, bp in rule.floors.items() if bp > rule.caps.get(role, bp)]
    fixed = rule.kind == "fixed_by_role"
    return {
        "shares": f"sum to {shares} basis points, at most 10000"
        if fixed and shares > WHOLE_BP
        else "at least one is above 0, or an effort"
        if not shares and not any(rule.efforts.values())
        else "",
        "efforts": f"have no effect under {rule.kind}" if fixed and rule.efforts else "",
        "floors": f"sum to {floors} basis points, at most 10000"
        if floors > WHOLE_BP
        else f"{crossed[0]} is above its cap"
        if crossed
        else "",
        "unclaimed": f"{capped[0]} has a cap, so it cannot take what is left" if capped else "",
    }


def entries(commission: object) -> Iterator[tuple[str, Any, Any]]:
    """Place, kind and value of each entry of the tables, since a path into a table does not name the key."""
    if not isinstance(commission, dict):
        return
    splits = commission.get("splits")
    rules = [(f"splits[{row}].", rule) for row, rule in enumerate(splits if isinstance(splits, list) else ())]
    for place, part in (("", commission), ("default.", commission.get("default")), *rules):
        for table, kind in _TABLES.items():
            given = part.get(table) if isinstance(part, dict) else None
            for key, value in given.items() if isinstance(given, dict) else ():
                yield f"{place}{table}.{key}", kind, value
