"""How a commission is divided among who has a part in the sale: a list of rules, each a pure function.

A rule gives each claim a weight, all in one unit. Where the rule is ``bounded``, roles are then held between
their floors and caps; what was agreed with a lender or a team is floor and cap in one, within the cap of the
role. What caps leave over goes to the others in proportion; where nobody may take more, to the first role of
``unclaimed`` that is there, else to who is paid as the group settles today. Floors and agreements above the
whole are cut in proportion. Where nobody has a weight all is as the group settles today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import lcm
from typing import NamedTuple

from router.rules.money.attribution import Claim
from scoring.terms import WHOLE_BP, Role, SplitKind, SplitRule

#: Weights of claims, one each, in any unit.
Weights = list[int]


def _winner_served(_: SplitRule, claims: Sequence[Claim]) -> Weights:
    """All to who served."""
    return _parts(claims, "server")


def _winner_bound(_: SplitRule, claims: Sequence[Claim]) -> Weights:
    """All to who is bound, even while somebody else stands in."""
    lent = any(claim.role == "lender" for claim in claims)
    return _parts(claims, "lender" if lent else "owner")


def _fixed_by_role(rule: SplitRule, claims: Sequence[Claim]) -> Weights:
    """Basis points by role; what is not claimed goes where the rule says, else to all in proportion."""
    weights, whole = _by_role(rule, claims), WHOLE_BP * _unit(claims)
    heir, rest = _heir(rule, claims), whole - sum(weights)
    if heir is None or rest <= 0:
        return weights
    parts = _parts(claims, heir)
    return [weight * sum(parts) + rest * part for weight, part in zip(weights, parts, strict=True)]


def _effort_weighted(rule: SplitRule, claims: Sequence[Claim]) -> Weights:
    """A weight by role, and what was done on top."""
    unit = _unit(claims)
    done = [unit * sum(rule.efforts.get(deed, 0) for deed in claim.deeds) for claim in claims]
    return [part + deeds for part, deeds in zip(_by_role(rule, claims), done, strict=True)]


def told(rule: SplitRule, claims: Sequence[Claim], parts: Split) -> list[str]:
    """Of what the weight of each claim is made, where the rule weighs what was done; '' where it does not."""
    if rule.kind != "effort_weighted":
        return [""] * len(claims)
    unit, given, raw = _unit(claims), _by_role(rule, claims), _effort_weighted(rule, claims)
    whole, total = sum(raw), sum(parts.weights) + parts.settled
    as_weighed = all(now * whole == before * total for now, before in zip(parts.weights, raw, strict=True))
    of = f"of {_points(whole, unit)}" + ("" if as_weighed else ", then floors, caps and what was agreed")
    out = []
    for claim, part in zip(claims, given, strict=True):
        deeds = Counter(deed for deed in claim.deeds if rule.efforts.get(deed))
        made = [f"{_points(part, unit)} {claim.role}"] * bool(part)
        made += [f"{rule.efforts[deed] * times} {deed}" for deed, times in deeds.items()]
        out.append(f"{' + '.join(made)} {of}" if made else "")
    return out


def _points(weight: int, unit: int) -> str:
    whole, rest = divmod(weight, unit)
    return f"{whole}.{rest * 100 // unit:02}" if rest else f"{whole}"


class Rule(NamedTuple):
    """``bounded``: whether floors, caps and agreements hold; who takes all is asked for none."""

    weigh: Callable[[SplitRule, Sequence[Claim]], Weights]
    bounded: bool


#: All there are, by the name that a policy gives.
SPLIT_RULES: dict[SplitKind, Rule] = {
    "winner_served": Rule(_winner_served, bounded=False),
    "winner_bound": Rule(_winner_bound, bounded=False),
    "fixed_by_role": Rule(_fixed_by_role, bounded=True),
    "effort_weighted": Rule(_effort_weighted, bounded=True),
}


class Split(NamedTuple):
    """The weights of claims, and of who is paid as the group settles today; one at least is above zero."""

    weights: Weights
    settled: int


def split(rule: SplitRule, claims: Sequence[Claim]) -> Split:
    """How the rule divides a sale; the listing of the claims decides nothing."""
    weigh, bounded = SPLIT_RULES[rule.kind]
    weights = weigh(rule, claims)
    if not any(weights):
        return Split(weights, 1)
    return _held(rule, claims, weights) if bounded else Split(weights, 0)


def _parts(claims: Sequence[Claim], role: Role) -> Weights:
    return [claim.part if claim.role == role else 0 for claim in claims]


def _totals(claims: Sequence[Claim], weights: Sequence[int]) -> dict[Role, int]:
    totals: dict[Role, int] = {}
    for claim, weight in zip(claims, weights, strict=True):
        totals[claim.role] = totals.get(claim.role, 0) + weight
    return totals


def _role_parts(claims: Sequence[Claim]) -> dict[Role, int]:
    return _totals(claims, [claim.part for claim in claims])


def _unit(claims: Sequence[Claim]) -> int:
    """What a basis point is counted as, so that every part of a role is a whole number."""
    return lcm(*(total for total in _role_parts(claims).values() if total))


def _by_role(rule: SplitRule, claims: Sequence[Claim]) -> Weights:
    """What was agreed or what the rule gives to each role, by the parts in it."""
    unit, totals = _unit(claims), _role_parts(claims)
    given = [rule.shares.get(each.role, 0) if each.agreed_bp is None else each.agreed_bp for each in claims]
    return [
        bp * claim.part * unit // (totals[claim.role] or 1) for bp, claim in zip(given, claims, strict=True)
    ]


def _heir(rule: SplitRule, claims: Sequence[Claim]) -> Role | None:
    """Who gets what nobody else may have."""
    totals = _role_parts(claims)
    return next((role for role in rule.unclaimed if totals.get(role)), None)


def _held(rule: SplitRule, claims: Sequence[Claim], weights: Weights) -> Split:
    """Hold the roles between floors and caps, in exact arithmetic."""
    totals = _totals(claims, weights)
    # a role without a weight is divided by parts, and one without parts is not there
    inner = [
        weight if totals[claim.role] else claim.part for claim, weight in zip(claims, weights, strict=True)
    ]
    within = _totals(claims, inner)
    mass = {role: totals[role] for role in totals if within[role]}
    agreed = {claim.role: claim.agreed_bp for claim in claims if claim.agreed_bp is not None}
    caps = {role: rule.caps.get(role, WHOLE_BP) for role in mass}
    floors = {role: min(caps[role], agreed.get(role, rule.floors.get(role, 0))) for role in mass}
    caps |= {role: floors[role] for role in agreed if role in mass}
    held = _settle(mass, floors, caps)
    if not held:
        return Split(weights, 0)
    free = [role for role in mass if role not in held]
    free_mass = sum(mass[role] for role in free)
    left = max(0, WHOLE_BP - sum(held.values()))
    if not free_mass and (heir := _heir(rule, claims)) is not None:
        held[heir] = held.get(heir, 0) + left
        left = 0
    # a role's amount in basis points is held / 1 or left * mass / free, here by one denominator
    unit = free_mass or 1
    amounts = {role: bp * unit for role, bp in held.items()} | {role: left * mass[role] for role in free}
    scale = lcm(*(within[role] for role in mass))
    out = [
        amounts.get(claim.role, 0) * scale * part // (within[claim.role] or 1)
        for claim, part in zip(claims, inner, strict=True)
    ]
    return Split(out, 0 if free_mass else left * scale)


def _settle(
    mass: Mapping[Role, int], floors: Mapping[Role, int], caps: Mapping[Role, int]
) -> dict[Role, int]:
    """The basis points of the roles that are held at a bound, by the rule of flexible boxes (CSS, 9.7).

    What is too much or too little is taken from or given to the free ones in proportion, and of those that
    then go over a bound the side that weighs more is held, until none does.
    """
    held: dict[Role, int] = {}
    if sum(floors.values()) > WHOLE_BP:
        return dict(floors)
    while free := [role for role in mass if role not in held]:
        rest, all_free = WHOLE_BP - sum(held.values()), sum(mass[role] for role in free)
        if not all_free:
            return held | {role: floors[role] for role in free}
        low = {r: gap for r in free if (gap := floors[r] * all_free - rest * mass[r]) > 0}
        high = {r: gap for r in free if (gap := rest * mass[r] - caps[r] * all_free) > 0}
        if not low and not high:
            break
        more = sum(low.values()) - sum(high.values())
        held |= {role: floors[role] for role in low if more >= 0}
        held |= {role: caps[role] for role in high if more <= 0}
    return held
