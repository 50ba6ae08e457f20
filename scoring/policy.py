"""How a brand wants its leads routed: a TOML text, checked before it is taken."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.requests import TIERS
from topics.fields import Tier

Weight = Annotated[float, Meta(ge=0, le=1000)]
Seconds = Annotated[int, Meta(ge=1, le=7 * 86_400)]
Km = Annotated[float, Meta(gt=0, le=500)]

_FILTERS = tuple(name for name, _ in ELIGIBILITY)
_FEATURES = tuple(name for name, _ in FEATURES)
_WEIGHTS: dict[str, float] = {
    "distance": 3,
    "skills": 2,
    "free_capacity": 2,
    "owner": 4,
    "store": 3,
    "price_zone": 1,
}
_RESPOND_S: dict[Tier, int] = {"vip": 300, "repeat": 600, "new": 900, "prospect": 1800}


class PolicyError(ValueError):
    """A policy that cannot be taken; the message names the key and what is wrong with it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default works untuned. ``weights`` and ``respond_s`` need name only what differs from it."""

    version: int = 0
    radius_km: Km = 30
    #: Widen the search until it holds this many guides, or reaches the radius.
    candidates_min: Annotated[int, Meta(ge=1, le=10_000)] = 50
    shortlist_max: Annotated[int, Meta(ge=1, le=64)] = 16
    #: How many who were not chosen an explanation names.
    runners_up: Annotated[int, Meta(ge=0, le=16)] = 3
    #: Whose cell a fresh lead goes to: of the first of these that it has.
    cell_order: tuple[Literal["store", "owner", "nearest"], ...] = ("store", "owner", "nearest")
    #: How long a guide has to answer an offer, per tier of the lead.
    respond_s: dict[Tier, Seconds] = {}
    #: Who comes first when leads wait.
    tier_order: tuple[Tier, ...] = TIERS
    weights: dict[str, Weight] = {}
    #: The filters that are on.
    filters: tuple[str, ...] = _FILTERS
    #: Open leads at once, for a guide that does not say.
    capacity_default: Annotated[int, Meta(ge=0, le=100_000)] = 20
    distance_half_km: Km = 5

    def __post_init__(self) -> None:
        """Fill in what is left at its default, and refuse what cannot work."""
        for name, given in (("weights", _WEIGHTS | self.weights), ("respond_s", _RESPOND_S | self.respond_s)):
            msgspec.structs.force_setattr(self, name, given)
        _refuse_unknown("weights", self.weights, _FEATURES)
        _refuse_unknown("filters", self.filters, _FILTERS)
        if not any(self.weights.values()):
            raise ValueError("weights: at least one is above 0")
        if not self.cell_order or len(set(self.cell_order)) < len(self.cell_order):
            raise ValueError("cell_order: holds at least one place, none twice")
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
    for table, kind in (("weights", Weight), ("respond_s", Seconds)):
        given = values.get(table)
        for key, value in given.items() if isinstance(given, dict) else ():
            _convert(value, kind, f"{table}.{key}: ")
    policy: Policy = _convert(values | {"version": version}, Policy, "")
    return policy


def _convert(value: Any, kind: Any, place: str) -> Any:  # noqa: ANN401 - any TOML value, any type
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{place}{error}") from None


def _refuse_unknown(field: str, given: tuple[str, ...] | dict[str, float], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{field}: {name!r:.80} is none of {', '.join(known)}")
