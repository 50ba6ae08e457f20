"""The fen of a commission: they sum up, nobody goes below zero, no listing decides who gets the odd ones."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.rules.money import entitlement
from router.rules.money.allotment import Lot
from router.rules.money.attribution import Claim, attribute
from router.rules.money.evidence import inputs_of
from router.rules.money.splitting import SPLIT_RULES, split
from scoring.terms import SplitRule
from tests.commission_world import base, exact, proof, sale, sales, shared

EVERY_RULE = pytest.mark.parametrize("kind", SPLIT_RULES)
THIRDS = {"kind": "fixed_by_role", "shares": {"owner": 1, "server": 1, "store": 1}}


def held(inputs, fen):
    """What each role and party is entitled to of so many fen, but for nothing."""
    return {(share.role, share.party): share.fen for share in shared(inputs, fen) if share.fen}


def fen_of(inputs, draw):
    return draw.draw(st.integers(0, inputs["order"]["commission_fen"]))


@EVERY_RULE
@given(draw=st.data())
def test_m3_shares_sum_to_the_base_none_is_negative_and_each_is_less_than_a_fen_off(kind, draw):
    inputs = draw.draw(sales(kind))
    fen = fen_of(inputs, draw)
    shares, parts = shared(inputs, fen), exact(inputs)
    assert sum(share.fen for share in shares) == fen == sum(share.fen for share in base(inputs, fen))
    assert {(share.role, share.party) for share in shares} == {*parts}
    assert len(shares) == len(parts)
    for share in shares:
        assert share.fen >= 0
        assert abs(share.fen - fen * parts[share.role, share.party]) < 1


@EVERY_RULE
@given(draw=st.data())
def test_m4_no_listing_decides(kind, draw):
    """Neither that of evidence nor that of parties, keys, roles or repeats."""
    inputs = draw.draw(sales(kind))
    fen = fen_of(inputs, draw)
    listed = [*inputs["evidence"], *draw.draw(st.lists(st.sampled_from(inputs["evidence"] or [None])))]
    other = inputs | {
        "evidence": draw.draw(st.permutations([each for each in listed if each])),
        "parties": dict(draw.draw(st.permutations([*inputs["parties"].items()]))),
    }
    rule = inputs["terms"]["rule"]
    turned = {key: dict([*value.items()][::-1]) if isinstance(value, dict) else value
              for key, value in rule.items()}  # fmt: skip
    other["terms"] = inputs["terms"] | {"rule": turned}
    assert shared(other, fen) == shared(inputs, fen)
    assert base(other, fen) == base(inputs, fen)


@EVERY_RULE
@given(draw=st.data())
def test_what_divides_exactly_is_divided_exactly(kind, draw):
    """Scale: of as many fen as there are parts, and of any multiple, each gets its parts."""
    inputs = draw.draw(sales(kind))
    known, parts = inputs_of(inputs), exact(inputs)
    whole = math.lcm(*(part.denominator for part in parts.values()))
    for times in (1, 1000):
        shares = entitlement.Entitlement(known).shares(whole * times)
        assert {(share.role, share.party): share.fen for share in shares} == {
            key: whole * times * part for key, part in parts.items()
        }


@EVERY_RULE
@given(draw=st.data())
def test_m7_after_any_refunds_each_party_holds_its_entitlement_on_what_remains(kind, draw):
    """Corrections are differences; each sums to its refund, and nobody is ever below zero."""
    inputs = draw.draw(sales(kind))
    remaining = inputs["order"]["commission_fen"]
    holds = Counter(held(inputs, remaining))
    for _ in range(draw.draw(st.integers(0, 5))):
        refund = draw.draw(st.integers(0, remaining))
        remaining -= refund
        due = held(inputs, remaining)
        correction = {key: due.get(key, 0) - holds[key] for key in {*due, *holds}}
        assert sum(correction.values()) == -refund
        holds.update(correction)
        assert +holds == due
        assert min(holds.values(), default=0) >= 0
    assert not held(inputs, 0)  # all given back: nothing for each


def test_m7_a_clawback_by_split_of_the_refund_would_leave_somebody_with_what_is_not_theirs():
    """Why it is no `split(refund)`: 3:3:1 and 4 fen given back one by one."""
    rule = {"kind": "fixed_by_role", "shares": {"server": 3, "owner": 3, "store": 1}}
    wrong = 0
    for number in range(50):
        inputs = sale(
            proof("binding", "g1"), fen=4, rule=rule, served_by="g2", store_id="s1", order_id=f"o{number}"
        )
        one, all_four = held(inputs, 1), held(inputs, 4)
        wrong += any(all_four.get(key, 0) < 4 * fen for key, fen in one.items())
    assert wrong


def test_m1_money_is_whole_fen_up_to_the_largest_amount_and_nothing_else():
    inputs = sale(proof("binding", "g1"), served_by="g2", store_id="s1", fen=2**53 // 10)
    assert all(type(share.fen) is int for share in shared(inputs, 2**53 // 10))
    for wrong in (1.0, "1", True, None, -1, 2**53 // 10 + 1):
        for entitled in (base, shared):
            with pytest.raises(ValueError, match=r"^commission_fen: "):
                entitled(inputs, wrong)
    for wrong in (1.0, "1", True, None, -1, 2**53 + 1):
        inputs["order"]["commission_fen"] = wrong
        with pytest.raises(ValueError, match="commission_fen"):
            shared(inputs, 0)


def test_dokan_3324_shares_sum_to_the_total():
    """A third each of 100 is not 33 + 33 + 33."""
    inputs = sale(proof("binding", "g1"), rule=THIRDS, served_by="g2", store_id="s1")
    for fen in range(200):
        assert sum(share.fen for share in shared(inputs, fen)) == fen


def odd_fen(allot, orders=3000):
    """How often each of three equal parties gets the odd fen of 100."""
    got = Counter()
    for number in range(orders):
        for key, fen in allot(sale_of_thirds(f"o{number}")).items():
            got[key] += fen - 33
    return got


def sale_of_thirds(order_id):
    return sale(
        proof("binding", "g1"), rule=THIRDS, fen=100, served_by="g2", store_id="s1", order_id=order_id
    )


def test_numscript_leftover_fen_do_not_go_to_the_first_listed():
    """Each of three gets a third of the odd fen: 1000 of 3000, give or take four deviations of 26."""
    got = odd_fen(lambda inputs: held(inputs, 100))
    assert len(got) == 3
    assert all(900 < count < 1100 for count in got.values())


def test_a_single_fen_goes_to_each_as_often_as_its_weight_says():
    """A tenth and nine tenths of it: 300 of 3000, give or take five deviations of 16."""
    weights = {("server", "p"): 1, ("owner", "q"): 9}
    lots = [Lot(weights, f"o{number}") for number in range(3000)]
    got = sum(dict(zip(lot.keys, lot.of(1), strict=True))["server", "p"] for lot in lots)
    assert 220 < got < 380


def test_numscript_without_the_lot_one_party_gets_every_odd_fen(monkeypatch):
    def largest_remainder(lot, fen):
        ends = [0, *lot._ends]
        exact = [Fraction(fen * (b - a), lot.total) for a, b in pairwise(ends)]
        out = [int(each) for each in exact]
        order = sorted(range(len(out)), key=lambda row: (out[row] - exact[row], lot.keys[row]))
        for row in order[: fen - sum(out)]:
            out[row] += 1
        return out

    monkeypatch.setattr(Lot, "of", largest_remainder)
    assert max(odd_fen(lambda inputs: held(inputs, 100), 300).values()) == 300


def test_oca_commission_refunds_have_the_sign_of_a_refund_and_both_halves():
    """51, 55, 555, PR 503, 607: paid twice, with the wrong sign, or only the negative half."""
    inputs = sale(proof("binding", "g1"), rule=THIRDS, fen=1000, served_by="g2", store_id="s1")
    before, after = held(inputs, 1000), held(inputs, 700)
    correction = {key: after[key] - before[key] for key in before}
    assert all(-101 <= fen <= -99 for fen in correction.values())
    assert sum(correction.values()) == -300
    # the same refund again changes what remains in no way, so there is nothing to correct
    assert held(inputs, 700) == after


@pytest.mark.parametrize(
    ("weights", "seed_free"),
    [({}, "none"), ({("a", "p"): 0}, "zero"), ({("a", "p"): -1, ("a", "q"): 2}, "negative")],
)
def test_weights_that_nobody_can_be_paid_by_are_refused(weights, seed_free):
    with pytest.raises(ValueError, match=r"^weights: "):
        Lot(weights, seed_free)


@EVERY_RULE
def test_weights_that_sum_to_zero_leave_all_as_the_group_settles(kind):
    """Nobody but a partner is there, for whom no rule here has anything."""
    inputs = sale(proof("origin", "flat"), rule={"kind": kind, "shares": {}, "efforts": {}})
    (share,) = shared(inputs, 500)
    assert (share.role, share.party, share.fen) == ("group", "group", 500)
    assert "as the group settles today" in share.why


@given(
    weights=st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("pqrs")), st.integers(0, 2**80), min_size=1
    ).filter(lambda weights: any(weights.values())),
    fen=st.integers(0, 2**60),
    seed=st.text(max_size=8),
)
def test_a_lot_of_any_weights_sums_and_is_fair(weights, fen, seed):
    lot = Lot(weights, seed)
    got = dict(zip(lot.keys, lot.of(fen), strict=True))
    assert sum(got.values()) == fen
    assert all(abs(got[key] - Fraction(fen * weight, lot.total)) < 1 for key, weight in weights.items())


def by_role(rule, claims):
    made = split(SplitRule(name="r", **rule), claims)
    total = sum(made.weights) + made.settled
    out = Counter({"settled": Fraction(made.settled, total)})
    for claim, weight in zip(claims, made.weights, strict=True):
        out[claim.role] += Fraction(weight, total)
    return {role: int(10_000 * part) for role, part in out.items() if part}


def claim(role, part=1, **more):
    return Claim(role, more.pop("party", role), part, "", paid_as=role, **more)


ALL = [claim("server"), claim("owner"), claim("store")]
FIXED = {"kind": "fixed_by_role", "shares": {"server": 5000, "owner": 2000, "store": 1000, "partner": 2000}}
EFFORT = {"kind": "effort_weighted", "shares": {"server": 1000, "owner": 1000}, "efforts": {"visit": 2000}}


@pytest.mark.parametrize(
    ("rule", "claims", "expected"),
    [
        ({"kind": "winner_served"}, ALL, {"server": 10_000}),
        ({"kind": "winner_bound"}, ALL, {"owner": 10_000}),
        ({"kind": "winner_bound"}, [claim("lender", agreed_bp=1), claim("owner")], {"lender": 10_000}),
        ({"kind": "winner_served"}, ALL[1:], {"settled": 10_000}),
        # the partner's share is nobody's: to all in proportion, to the store, or to the first who is there
        (FIXED, ALL, {"server": 6250, "owner": 2500, "store": 1250}),
        (FIXED | {"unclaimed": ("store",)}, ALL, {"server": 5000, "owner": 2000, "store": 3000}),
        (FIXED | {"unclaimed": ("manager", "owner")}, ALL, {"server": 5000, "owner": 4000, "store": 1000}),
        (FIXED | {"unclaimed": ("manager",)}, ALL, {"server": 6250, "owner": 2500, "store": 1250}),
        # who would inherit has no share of their own
        ({"kind": "fixed_by_role", "shares": {"server": 4000}, "unclaimed": ("store",)}, ALL,
         {"server": 4000, "store": 6000}),
        # what was agreed with a lender stands, whatever the rule gives to lenders
        (FIXED | {"unclaimed": ("store",)}, [*ALL, claim("lender", agreed_bp=500)],
         {"server": 5000, "owner": 2000, "store": 2500, "lender": 500}),
        (EFFORT, [claim("server"), claim("owner"), claim("lender", agreed_bp=1000)],
         {"server": 4500, "owner": 4500, "lender": 1000}),
        (EFFORT | {"caps": {"lender": 400}}, [claim("server"), claim("lender", agreed_bp=1000)],
         {"server": 9600, "lender": 400}),
        # deeds move weight, also to who has no part but for them
        (EFFORT, [claim("server", deeds=("visit",)), claim("owner")], {"server": 7500, "owner": 2500}),
        (EFFORT, [claim("server"), claim("server", 0, party="x", deeds=("visit",))], {"server": 10_000}),
        # caps and floors
        (EFFORT | {"caps": {"server": 6000}}, [claim("server", deeds=("visit",)), claim("owner")],
         {"server": 6000, "owner": 4000}),
        (EFFORT | {"floors": {"store": 2000}}, ALL, {"server": 4000, "owner": 4000, "store": 2000}),
        (EFFORT | {"caps": {"server": 3000, "owner": 3000}}, ALL,
         {"server": 3000, "owner": 3000, "settled": 4000}),
        (EFFORT | {"caps": {"server": 3000, "owner": 3000}, "unclaimed": ("store",)}, ALL,
         {"server": 3000, "owner": 3000, "store": 4000}),
        (EFFORT | {"floors": {"store": 10_000, "owner": 10_000}}, ALL, {"owner": 5000, "store": 5000}),
    ],
)  # fmt: skip
def test_how_a_rule_divides(rule, claims, expected):
    assert by_role(rule, claims) == expected


@given(draw=st.data())
def test_a_role_at_its_floor_would_get_no_more_and_one_at_its_cap_no_less(draw):
    """All others have one rate per weight; at that rate who is held at a bound would be beyond it."""
    roles = ("server", "owner", "store", "manager", "partner")
    bounds = st.dictionaries(st.sampled_from(roles), st.integers(0, 2000))
    shares = draw.draw(st.fixed_dictionaries({role: st.integers(1, 100) for role in roles}))
    floors, caps = draw.draw(bounds), {role: 2000 + bp for role, bp in draw.draw(bounds).items()}
    rule = SplitRule(name="r", kind="effort_weighted", shares=shares, floors=floors, caps=caps)
    claims = [claim(role) for role in roles]
    made = split(rule, claims)
    total = sum(made.weights) + made.settled
    got = {each.role: Fraction(10_000 * w, total) for each, w in zip(claims, made.weights, strict=True)}
    free = [r for r in roles if floors.get(r, 0) < got[r] < caps.get(r, 10_000)]
    rates = {got[role] / shares[role] for role in free}
    assert len(rates) <= 1
    for role in roles:
        assert floors.get(role, 0) <= got[role] <= caps.get(role, 10_000)
        for rate in rates:
            assert got[role] == min(max(rate * shares[role], floors.get(role, 0)), caps.get(role, 10_000))
    assert not made.settled or all(got[role] == caps.get(role, 10_000) for role in roles)


def test_what_a_role_gets_is_divided_within_it_by_parts():
    """A second sharer gets a fifth of the sharers' part, two managers half each."""
    sharers = [proof("share", "m2"), proof("share", "m3", level=2, of="m2")]
    rule = {"kind": "fixed_by_role", "shares": {"sharer": 5000, "manager": 5000}}
    inputs = sale(*sharers, rule=rule, fen=1000, store_id="s1")
    assert held(inputs, 1000) == {
        ("sharer", "m2"): 400, ("sharer", "m3"): 100, ("manager", "boss"): 250, ("manager", "vice"): 250,
    }  # fmt: skip


def test_a_party_in_one_role_twice_is_one_share():
    """A team that serves members it runs is paid once as a team, for both."""
    run = proof("delegation", "team", 9, of="g1", share_bp=2000)
    rule = {"kind": "fixed_by_role", "shares": {"server": 6000, "owner": 2000}}
    inputs = sale(proof("binding", "g1", 20), run, rule=rule, served_by="team", fen=1000)
    assert held(inputs, 1000) == {("team", "team"): 800, ("owner", "g1"): 200}
    assert [(share.role, share.party) for share in base(inputs, 1000)] == [("team", "team")]


def test_claims_are_listed_by_role_and_party():
    known = inputs_of(sale(proof("binding", "g1"), proof("chat", "g3"), served_by="g2", store_id="s1"))
    listed = [(each.role, each.party) for each in attribute(known).claims]
    assert listed == sorted(listed)
