"""Which evidence gives which role, for how long, and what is done about members who are no customers."""

from __future__ import annotations

import pytest

from router.rules.money.attribution import attribute
from router.rules.money.entitlement import Entitlement
from router.rules.money.evidence import inputs_of
from tests.commission_world import ago, base, proof, sale, shared

BOUND = proof("binding", "g1", 60)
LENT = proof("loan", "g2", 10, of="g1", share_bp=1500, until_ms=ago(-10))
RUN = proof("delegation", "team", 20, of="g1", share_bp=3000, until_ms=ago(-10))


def roles(*evidence, **more):
    """Who is paid as what, with the evidence told."""
    return {
        (each.paid_as, each.party): each.why for each in attribute(inputs_of(sale(*evidence, **more))).claims
    }


def paid(*evidence, **more):
    inputs = sale(*evidence, **more)
    return {
        (share.role, share.party): share.fen for share in shared(inputs, inputs["order"]["commission_fen"])
    }


@pytest.mark.parametrize(
    ("evidence", "order", "role", "why"),
    [
        ([BOUND], {}, ("owner", "g1"), "g1 is bound to the member (binding-g1)"),
        ([], {"served_by": "g2"}, ("server", "g2"), "g2 served order o1"),
        ([], {"served_by": "team"}, ("team", "team"), "team served order o1"),
        ([proof("chat", "g2")], {}, ("server", "g2"),
         "g2 was the last to do something for the member (chat-g2), chatted with the member (chat-g2)"),
        ([proof("live", "g3")], {"served_by": "g2"}, ("server", "g3"),
         "g3 was live with the member (live-g3)"),
        ([BOUND, LENT], {}, ("lender", "g1"), "g1 lent the member to g2 (loan-g2)"),
        ([BOUND, LENT], {}, ("owner", "g2"), "g2 stands in for g1 (loan-g2)"),
        ([BOUND, RUN, proof("chat", "team")], {"served_by": "g2"}, ("team", "team"),
         ("team runs the members of g1 (delegation-team) and did so for this one (chat-team), "
          "chatted with the member (chat-team)")),
        ([proof("share", "m2")], {}, ("sharer", "m2"), "m2 shared with the member (share-m2)"),
        ([], {"source": {"sharer_id": "m2"}}, ("sharer", "m2"), "m2 shared with the member (o1)"),
        ([proof("share", "m2"), proof("share", "m3", level=2, of="m2")], {}, ("sharer", "m3"),
         "m3 had passed it on to m2, who shared with the member (share-m3)"),
        ([], {"store_id": "s1"}, ("store", "s1"), "order o1 is of the store"),
        ([BOUND], {}, ("store", "s1"), "it is the store of g1"),
        ([], {"served_by": "g3"}, ("store", "s2"), "it is the store of g3"),
        ([], {"store_id": "s1"}, ("manager", "boss"), "boss manages store s1"),
        ([proof("origin", "mall", 300)], {}, ("ecommerce", "mall"), "mall supplied the member (origin-mall)"),
        ([proof("origin", "flat", 300)], {}, ("partner", "flat"), "flat supplied the member (origin-flat)"),
        ([], {"source": {"partner": "flat"}}, ("partner", "flat"), "flat supplied the member (o1)"),
    ],
)  # fmt: skip
def test_evidence_gives_a_role_and_is_named(evidence, order, role, why):
    assert roles(*evidence, **order)[role] == why


@pytest.mark.parametrize(
    ("evidence", "role"),
    [
        ([proof("binding", "g1", -1)], ("owner", "g1")),  # after the sale
        ([BOUND | {"until_ms": ago(0)}], ("owner", "g1")),  # it has just ended
        ([proof("binding", "g1", 366)], ("owner", "g1")),  # a year without action
        ([proof("chat", "g2", 31)], ("server", "g2")),
        ([proof("share", "m2", 31)], ("sharer", "m2")),
        ([proof("origin", "mall", 366)], ("ecommerce", "mall")),
        ([BOUND, LENT | {"until_ms": ago(1)}], ("lender", "g1")),  # it has returned by itself
        ([BOUND, LENT | {"of": "g3"}], ("lender", "g3")),  # who does not own cannot lend
        ([BOUND, RUN], ("team", "team")),  # it did nothing for this member
        ([BOUND, RUN, proof("chat", "team", 21)], ("team", "team")),  # before it ran them
        ([BOUND, RUN | {"until_ms": ago(1)}, proof("chat", "team")], ("team", "team")),  # revoked
        ([BOUND, RUN | {"of": "g3"}, proof("chat", "team")], ("team", "team")),  # of another guide's
        ([proof("share", "m3", level=2, of="m2")], ("sharer", "m3")),  # nobody took it up
        ([proof("share", "m2"), proof("share", "m3", level=3, of="m2")], ("sharer", "m3")),
        ([proof("binding", "g2", 90), BOUND], ("owner", "g2")),  # another is bound since
    ],
)
def test_what_gives_no_role(evidence, role):
    assert role not in roles(*evidence)


def test_a_later_contract_replaces_an_earlier_one_also_when_it_has_ended():
    assert ("owner", "g2") not in roles(proof("binding", "g2", 90), BOUND | {"until_ms": ago(1)})


def test_an_owner_who_acts_stays_one():
    assert ("owner", "g1") in roles(proof("binding", "g1", 900), proof("visit", "g1", 300))


def test_the_origin_share_survives_activation_for_the_agreed_term():
    """The member was bound, lent and served since; a shorter term ends it."""
    story = [proof("origin", "mall", 200), BOUND, LENT, proof("visit", "g2")]
    assert ("ecommerce", "mall") in roles(*story, served_by="g2")
    windows = dict(sale()["terms"]["attribution"]) | {"ecommerce": 199}
    assert ("ecommerce", "mall") not in roles(*story, served_by="g2", attribution=windows)


def test_the_first_to_supply_and_the_last_to_share_are_paid():
    origins = [proof("origin", "flat", 9), proof("origin", "loft", 20)]
    kinds = {"flat": {"kind": "partner"}, "loft": {"kind": "partner"}}
    found = roles(*origins, proof("share", "m2", 9), proof("share", "m3", 2), parties=kinds)
    assert ("partner", "loft") in found
    assert ("sharer", "m3") in found
    assert len(found) == 2


def test_more_levels_of_sharers_are_refused():
    chain = [proof("share", f"m{level + 1}", level=level, of=f"m{level}") for level in (1, 2, 3)]
    found = [roles(*chain, levels_max=most) for most in (0, 1, 2)]
    paid_for = [{party for role, party in each if role == "sharer"} for each in found]
    assert paid_for == [set(), {"m2"}, {"m2", "m3"}]
    with pytest.raises(ValueError, match="levels_max"):
        roles(*chain, levels_max=3)


@pytest.mark.parametrize(
    ("offset_h", "hours", "count"),
    [
        (8, (15, 17), 2),  # before and after midnight in Shanghai
        (0, (15, 17), 1),
        (8, (23, 25), 1),  # before and after midnight in London
        (0, (23, 25), 2),
        (-12, (11, 13), 2),
    ],
)
def test_a_day_of_effort_is_one_by_the_clock_of_the_book(offset_h, hours, count):
    chats = [proof("chat", "g2", 2 - hour / 24, id=f"c{hour}") for hour in hours]
    inputs = inputs_of(sale(*chats, served_by="g2", ledger_utc_offset_h=offset_h))
    [server] = [claim for claim in attribute(inputs).claims if claim.role == "server"]
    assert server.deeds == ("chat",) * count


def test_effort_moves_weight_once_a_day_for_each_deed():
    rule = {"shares": {"owner": 1000}, "efforts": {"live": 1000, "chat": 500}}
    lives = [proof("live", "g2", 3), proof("live", "g2", 3, id="again"), proof("live", "g2", 5, id="other")]
    assert paid(BOUND, *lives[:1], rule=rule) == {("owner", "g1"): 5000, ("server", "g2"): 5000}
    assert paid(BOUND, *lives[:2], rule=rule) == {("owner", "g1"): 5000, ("server", "g2"): 5000}
    assert paid(BOUND, *lives, rule=rule)["server", "g2"] in {6666, 6667}
    assert paid(BOUND, *lives, proof("chat", "g1", 9), rule=rule)["owner", "g1"] in {4285, 4286}


def test_deeds_of_a_party_in_two_roles_count_once():
    rule = {"shares": {"owner": 500, "server": 500}, "efforts": {"visit": 1000}}
    assert paid(BOUND, proof("visit", "g1"), rule=rule, served_by="g1") == {
        ("owner", "g1"): 2500, ("server", "g1"): 7500,
    }  # fmt: skip


def test_a_lender_keeps_what_was_agreed():
    assert paid(BOUND, LENT, proof("visit", "g2"), served_by="g2")["lender", "g1"] == 1500


def test_a_team_gets_what_was_agreed_of_members_that_it_ran():
    assert paid(BOUND, RUN, proof("chat", "team"), served_by="g2")["team", "team"] == 3000


def test_a_passive_owner_no_longer_takes_what_an_active_colleague_earned():
    """The story of the whole: the base pays the owner, the split whom the member saw live."""
    inputs = sale(BOUND, proof("live", "g3"), proof("visit", "g3"))
    assert [(share.role, share.party) for share in base(inputs, 10_000)] == [("owner", "g1")]
    got = {(share.role, share.party): share.fen for share in shared(inputs, 10_000)}
    assert got["server", "g3"] > 8000
    assert got["owner", "g1"] < 1000


SELF = {"served_by": "m1", "store_id": "s1"}


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        ("split", {"owner", "server", "store", "manager"}),
        ("without", {"owner", "store", "manager"}),
        ("store", {"store"}),
        ("base", {"server"}),
    ],
)
@pytest.mark.parametrize("mark", ["self_dealing", "staff", "competitor"])
def test_self_dealing_and_flags_have_the_effect_that_the_policy_names(mark, effect, expected):
    marks = dict.fromkeys(("self_dealing", "staff", "competitor"), "split") | {mark: effect}
    flags = [proof(mark, "m1")] if mark != "self_dealing" else []
    inputs = sale(BOUND, *flags, marks=marks, **SELF)
    assert {share.role for share in shared(inputs, 10_000)} == expected
    told = effect != "split"
    assert all(
        (f"since member m1 is marked {mark}." in share.why) is told for share in shared(inputs, 10_000)
    )


def test_the_strictest_of_several_effects_holds():
    marks = {"self_dealing": "without", "staff": "base", "competitor": "store"}
    inputs = sale(BOUND, proof("staff", "m1"), proof("competitor", "m1"), marks=marks, **SELF)
    assert [(share.role, share.party) for share in shared(inputs, 100)] == [("server", "m1")]


@pytest.mark.parametrize(
    ("order", "order_of_base", "expected"),
    [
        ({"served_by": "g2", "store_id": "s1"}, ["server", "owner", "store"], ("server", "g2")),
        ({"served_by": "g2", "store_id": "s1"}, ["owner", "server"], ("owner", "g1")),
        ({"store_id": "s1"}, ["server", "owner", "store"], ("owner", "g1")),
        ({"store_id": "s1"}, ["server", "store"], ("store", "s1")),
        ({}, ["server"], ("group", "group")),
        ({"served_by": "team"}, ["server"], ("team", "team")),
    ],
)
def test_the_base_is_paid_as_the_group_settles_today(order, order_of_base, expected):
    """Whoever else there is; a loan is no part of it."""
    (share,) = base(sale(BOUND, LENT, base_order=order_of_base, **order), 77)
    assert (share.role, share.party, share.fen) == (*expected, 77)


def test_income_without_action_is_what_went_to_owners_who_did_nothing():
    idle, active = sale(BOUND, served_by="g3"), sale(BOUND, proof("chat", "g1"), served_by="g3")
    shares = shared(idle, 10_000)
    (owners,) = [share.fen for share in shares if share.role == "owner"]
    assert Entitlement.of(idle).idle_income(shares) == {("g1", "east"): owners}
    assert Entitlement.of(active).idle_income(shared(active, 10_000)) == {}
    assert Entitlement.of(sale(BOUND)).idle_income(base(sale(BOUND), 500)) == {("g1", "east"): 500}
    # what was done long ago is no action, and who is not told has no region
    old = sale(BOUND, proof("chat", "g1", 40), parties={})
    assert Entitlement.of(old).idle_income(base(old, 500)) == {("g1", ""): 500}


def test_the_reasons_can_be_read():
    inputs = sale(BOUND, proof("visit", "g2"), served_by="g2", store_id="s1", fen=1000)
    assert {share.why for share in shared(inputs, 1000)} == {
        f"{SERVED}: 77.73 % {BY} (3000 server + 1500 visit {OF}).",
        f"g1 is bound to the member (binding-g1): 8.64 % {BY} (500 owner {OF}).",
        f"order o1 is of the store: 8.64 % {BY} (500 store {OF}).",
        f"boss manages store s1: 2.50 % {BY} (150 manager {OF}).",
        f"vice manages store s1: 2.50 % {BY} (150 manager {OF}).",
    }


SERVED = "g2 served order o1, met the member in the store (visit-g2)"
BY, OF = "by rule default", "of 5800, then floors, caps and what was agreed"


def test_who_has_a_role_but_no_part_is_told_why():
    inputs = sale(BOUND, served_by="g2", store_id="s1", rule={"name": "all", "kind": "winner_served"})
    assert {(share.role, share.party, share.fen, share.why) for share in Entitlement.of(inputs).without} >= {
        (
            "owner",
            "g1",
            0,
            "g1 is bound to the member (binding-g1): nothing by rule all, which has no weight for it.",
        ),
    }
