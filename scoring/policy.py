"""How a brand wants its leads routed: a TOML text, checked before it is taken."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.requests import TIERS
from scoring.terms import Commission, entries
from topics.assignments import Mark, Rung
from topics.fields import Id, Tier
from topics.stores import StoreKind

Weight = Annotated[float, Meta(ge=0, le=1000)]
Seconds = Annotated[int, Meta(ge=1, le=7 * 86_400)]
Km = Annotated[float, Meta(gt=0, le=500)]
Level = Annotated[int, Meta(ge=1, le=10)]
Share = Annotated[float, Meta(ge=0, le=1)]
Quota = Annotated[int, Meta(ge=0, le=1_000_000)]

_FILTERS = tuple(each.name for each in ELIGIBILITY)
_FEATURES = tuple(each.name for each in FEATURES)
#: The named store outweighs everything but the member's own guide, who outweighs everything while in touch.
_WEIGHTS: dict[str, float] = {
    "free_capacity": 2,
    "book": 0.5,
    "responsiveness": 1,
    "conversion": 1,
    "turn": 1,
    "distance": 3,
    "store": 17,
    "store_fit": 0.5,
    "owner": 34,
    "last_server": 2,
    "skills": 2,
    "preferences": 0.5,
    "value_level": 1,
    "urgency": 1,
    "price_zone": 1,
}
#: The states that a guide who has answered leaves a lead in.
Taken = Literal["accepted", "contacted", "visited"]
_LIMIT_S: dict[Taken, int] = {"accepted": 86_400, "contacted": 5 * 86_400, "visited": 3 * 86_400}
_LADDER_S: dict[Rung, int] = {"owner": 1800, "store": 1800, "near": 3600, "region": 7200, "hq": 86_400}
_RESPOND_S: dict[Tier, int] = {"vip": 300, "repeat": 600, "new": 900, "prospect": 1800}
_LEVEL_MIN: dict[Tier, int] = {"vip": 1, "repeat": 1, "new": 1, "prospect": 1}
_KIND_FIT: dict[StoreKind, float] = {
    "full_price": 1,
    "outlet": 1,
    "franchise": 1,
    "partner": 1,
    "hq": 0.5,
}
#: What becomes of a lead of who is no customer: routed all the same, kept for headquarters, or closed.
Effect = Literal["route", "hq", "close"]
_MARKS: dict[Mark, Effect] = {"staff": "route", "competitor": "hq", "self_dealing": "route"}
#: The tables of the policy: the kind of their values, and the defaults of those that are not named.
_TABLES: dict[str, tuple[Any, dict[Any, Any]]] = {
    "weights": (Weight, _WEIGHTS),
    "respond_s": (Seconds, _RESPOND_S),
    "limit_s": (Seconds, _LIMIT_S),
    "ladder_s": (Seconds, _LADDER_S),
    "level_min": (Level, _LEVEL_MIN),
    "kind_fit": (Share, _KIND_FIT),
    "partner_quota": (Quota, {}),
    "marks": (Effect, _MARKS),
}


class PolicyError(ValueError):
    """A policy that cannot be taken; the message names the key and what is wrong with it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default works untuned. Tables need name only what differs from it."""

    version: int = 0

    # who is looked at
    radius_km: Km = 30
    #: Widen the search until it holds this many guides, or reaches the radius.
    candidates_min: Annotated[int, Meta(ge=1, le=10_000)] = 50
    shortlist_max: Annotated[int, Meta(ge=1, le=64)] = 16
    #: How many who were not chosen an explanation names.
    runners_up: Annotated[int, Meta(ge=0, le=16)] = 3
    #: Whose cell a fresh lead goes to: of the first of these that it has.
    cell_order: tuple[Literal["store", "owner", "nearest"], ...] = ("store", "owner", "nearest")

    # who may
    #: The filters that are on.
    filters: tuple[str, ...] = _FILTERS
    #: Open leads at once, for a guide that does not say.
    capacity_default: Annotated[int, Meta(ge=0, le=100_000)] = 20
    #: The level that a guide needs in every need of a lead.
    skill_level_min: Annotated[int, Meta(ge=1, le=5)] = 1
    #: The level of guide, 1..10, that leads of a tier need.
    level_min: dict[Tier, Level] = {}
    #: The share of each guide's capacity that is kept for the first of ``tier_order``.
    reserve_top: Share = 0
    #: How many open leads a partner may have at once; partners not named have no quota.
    partner_quota: dict[Id, Quota] = {}

    # who is best
    weights: dict[str, Weight] = {}
    distance_half_km: Km = 5
    #: The value of a lead that is half way to the most valuable there is.
    value_half_fen: Annotated[int, Meta(ge=1, le=10**12)] = 100_000
    kind_fit: dict[StoreKind, Share] = {}
    #: How long after a member's last message they can be answered.
    window_h: Annotated[int, Meta(ge=1, le=24 * 90)] = 48
    #: How long before that ends the responsible guide is reminded; at the earliest when it begins.
    window_remind_h: Annotated[int, Meta(ge=1, le=24 * 90)] = 6
    #: How long until what the responsible guide did for the member counts half.
    owner_half_life_days: Annotated[int, Meta(ge=1, le=3650)] = 90
    #: What is believed of a guide before any answer, and as of how many answers that counts.
    response_mean: Share = 0.6
    conversion_mean: Share = 0.2
    prior_strength: Annotated[float, Meta(ge=0.1, le=1000)] = 10
    #: How long until an answer counts half.
    half_life_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    #: How many leads at weight 1 a guide may lag behind, see `fairness`.
    fair_horizon: Annotated[float, Meta(ge=0, le=1000)] = 2

    # who is left in peace
    #: How often a day a member is contacted, by all guides together; a member may have a cap of their own.
    contact_cap_per_day: Annotated[int, Meta(ge=0, le=64)] = 3
    #: How many reminders a guide gets a day.
    reminder_cap_per_day: Annotated[int, Meta(ge=0, le=1000)] = 20
    #: How long a member is lent at most.
    loan_days_max: Annotated[int, Meta(ge=1, le=3650)] = 90

    # who comes first
    #: Who comes first when leads wait.
    tier_order: tuple[Tier, ...] = TIERS
    #: After so long a lead counts as one of the tier above, and so on.
    age_up_s: Annotated[int, Meta(ge=1, le=90 * 86_400)] = 3600
    #: Leads that wait longer than this are served in the order of their arrival before any fresh one of
    #: their tier.
    fresh_s: Annotated[int, Meta(ge=0, le=86_400)] = 10
    #: The batch is matched as a whole while it takes no more than this much work, see `match`.
    match_rounds_max: Annotated[int, Meta(ge=0, le=100_000)] = 300
    #: How long a guide has to answer an offer, per tier of the lead.
    respond_s: dict[Tier, Seconds] = {}
    #: After this share of that time the guide is reminded; 1 for never.
    remind_share: Share = 0.5
    #: How long a guide who has answered may leave a lead as it is.
    limit_s: dict[Taken, Seconds] = {}
    #: After so many offers running without an answer a guide gets none for a while.
    silent_max: Annotated[int, Meta(ge=1, le=1000)] = 3
    pause_s: Seconds = 3600
    #: A lead older than this is closed when its time is over, instead of being offered again.
    life_max_s: Annotated[int, Meta(ge=60, le=12 * 86_400)] = 12 * 86_400
    #: So far ahead a visit may be booked.
    book_days_max: Annotated[int, Meta(ge=1, le=12)] = 12
    #: A reservation occupies its slot at once, and a guide from so long before it begins.
    horizon_h: Annotated[int, Meta(ge=0, le=288)] = 24
    #: For so long a lead of the same member for the same is merged into the open one; 0 for never.
    merge_window_s: Annotated[int, Meta(ge=0, le=12 * 86_400)] = 86_400
    #: What becomes of leads whose member is no customer.
    marks: dict[Mark, Effect] = {}
    #: Whether a lead waits for the store that it names, while that is closed.
    queue_until_open: bool = False
    #: Who is asked, in this order, while nobody answers; and how long a lead stays on each rung at most.
    ladder: tuple[Rung, ...] = ("owner", "store", "near", "region", "hq")
    ladder_s: dict[Rung, Seconds] = {}

    # who is paid
    commission: Commission = Commission()

    def __post_init__(self) -> None:
        """Fill in what is left at its default, and refuse what cannot work."""
        for name, (_, defaults) in _TABLES.items():
            msgspec.structs.force_setattr(self, name, defaults | getattr(self, name))
        _refuse_unknown("weights", self.weights, _FEATURES)
        _refuse_unknown("filters", self.filters, _FILTERS)
        if self.partner_quota:
            # a quota that nothing enforces would be a promise to a partner that is not kept
            raise ValueError(
                "partner_quota: cannot be given yet, since nothing counts a partner's open leads"
            )
        if not any(self.weights.values()):
            raise ValueError("weights: at least one is above 0")
        for name in ("cell_order", "ladder"):
            if len(set(given := getattr(self, name))) < max(1, len(given)):
                raise ValueError(f"{name}: holds at least one place, none twice")
        if sorted(self.tier_order) != sorted(TIERS):
            raise ValueError(f"tier_order: holds each of {', '.join(TIERS)} once")


def parse(toml_text: str, version: int) -> Policy:
    """Read a policy.

    Raises:
        PolicyError: naming the key or value that is wrong.

    """
    try:
        values = tomllib.loads(toml_text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"not TOML: {error}") from None
    if "version" in values:
        raise PolicyError("version: comes with the policy's event, not in its text")
    # A path into a table does not name the key, so the tables' values are looked at one by one.
    for table, (kind, _) in _TABLES.items():
        given = values.get(table)
        for key, value in given.items() if isinstance(given, dict) else ():
            _convert(value, kind, f"{table}.{key}: ")
    for place, kind, value in entries(values.get("commission")):
        _convert(value, kind, f"commission.{place}: ")
    policy: Policy = _convert(values | {"version": version}, Policy, "")
    return policy


def _convert(value: Any, kind: Any, place: str) -> Any:  # noqa: ANN401 - any TOML value, any type
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{place}{error}") from None


def _refuse_unknown(field: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{field}: {name!r:.80} is none of {', '.join(known)}")
