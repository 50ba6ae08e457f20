"""The roster and the policy: what is laid out, looked up and refused."""

from __future__ import annotations

import numpy as np
import pytest

from scoring import layout
from scoring.build import build
from scoring.features import FEATURES
from scoring.policy import Policy, PolicyError, parse
from scoring.requests import columns
from scoring.roster import effective_capacity
from topics.fields import Period
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.reservations import Reservation
from topics.stores import Store


def store(store_id="s", **fields):
    defaults = {"brand": "b", "version": 1, "lat": 1.0, "lon": 1.0, "kind": "hq", "active": True}
    return Store(store_id=store_id, **(defaults | fields))


def guide(guide_id="g", **fields):
    defaults = {"brand": "b", "version": 1, "store_id": "s", "active": True}
    return Guide(guide_id=guide_id, **(defaults | fields))


def test_rows_are_found_by_brand_and_id():
    roster = build([store(), store(brand="c")], [guide(), guide(brand="c")], [], capacity_default=1)
    assert {roster.store_row("b", "s"), roster.store_row("c", "s")} == {0, 1}
    assert roster.guide_store[roster.guide_row("c", "g")] == roster.store_row("c", "s")
    assert roster.store_row("d", "s") == roster.guide_row("b", "x") == roster.cell_row("x/-") == -1


def test_a_guide_of_an_unknown_store_is_nobody():
    roster = build([store()], [guide(store_id="x"), guide("h", brand="c")], [], capacity_default=1)
    assert list(roster.guide_ids) == []
    assert roster.guide_row("b", "g") == -1


def test_a_store_holds_one_run_of_guides():
    stores = [store(f"s{i}", lat=float(i % 7)) for i in range(20)]
    guides = [guide(f"g{i}", store_id=f"s{i % 17}") for i in range(50)]
    roster = build(stores, guides, [], capacity_default=1)
    assert (np.diff(roster.store_key) >= 0).all()
    for row in range(20):
        first, count = roster.store_guides_start[row], roster.store_guides_count[row]
        assert set(roster.guide_ids.take(np.arange(first, first + count))) == {
            g.guide_id for g in guides if g.store_id == roster.store_ids[row]
        }


def test_the_name_of_a_cell_cannot_be_forged():
    roster = build([store(market="a/b {c}:"), store("t")], [], [], capacity_default=1)
    assert roster.cell_of(roster.store_row("b", "s")) == "b/a%2Fb%20%7Bc%7D%3A"
    assert roster.cell_of(roster.store_row("b", "t")) == "b/-"
    assert [roster.cell_row(cell) for cell in roster.cells] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "given", "zones"),
    [
        ("full_price", (), 1),
        ("outlet", (), 2),
        ("franchise", (), 3),
        ("partner", ("special",), 2),
        ("hq", ("full", "special"), 3),
        ("outlet", ("full", "full"), 0),
    ],
)
def test_a_guide_sells_within_the_zones_of_the_store(kind, given, zones):
    assert build(
        [store(kind=kind)], [guide(price_zones=given)], [], capacity_default=1
    ).guide_zones.tolist() == [zones]


def test_effective_capacity_counts_who_can_work_now():
    guides = [
        guide("here"),
        guide("own", capacity=7),
        guide("left", active=False),
        guide("closed", store_id="t"),
        guide("offline"),
        guide("away"),
        guide("leave", leave=(Period(from_ms=1, to_ms=2), Period(from_ms=10, to_ms=20))),
    ]
    presence = [
        Presence(guide_id=who, brand="b", status=who, occurred_at_ms=1) for who in ("offline", "away")
    ]
    roster = build([store(), store("t", active=False)], guides, presence, capacity_default=3)

    def at(now_ms):
        return dict(zip(roster.guide_ids, effective_capacity(roster, now_ms).tolist(), strict=True))

    there = {"here": 3, "own": 7, "left": 0, "closed": 0, "offline": 0, "away": 3}
    assert at(9) == there | {"leave": 3}
    assert at(10) == at(19) == there | {"leave": 0}
    assert at(20) == there | {"leave": 3}


def test_setting_an_unknown_guide_touches_nobody():
    roster = build([store()], [guide("g"), guide("h")], [], capacity_default=1)
    roster.set_load(np.array([-1, roster.guide_row("b", "g")]), np.array([5, 6]))
    roster.set_presence(np.array([-1]), np.array([False]))
    assert roster.guide_load[roster.guide_row("b", "g")] == 6
    assert roster.guide_load[roster.guide_row("b", "h")] == 0
    assert roster.guide_present.all()


def test_skills_are_limited_to_those_most_guides_have(monkeypatch):
    monkeypatch.setattr(layout, "TAGS_MAX", 1)
    guides = [
        guide("g", skills={"rare": 5}),
        guide("h", skills={"common": 2}),
        guide("i", skills={"common": 4}),
    ]
    roster = build([store()], guides, [], capacity_default=1)
    assert list(roster.tags) == ["common"]
    assert not roster.guide_skills[:, 2:].any()
    assert roster.guide_skills[:, :2].tolist() == [[0, 0], [2, 0], [4, 0]]


def test_requests_are_laid_out_in_columns():
    roster = build([store(kind="outlet"), store("t")], [guide()], [], capacity_default=1)
    shared = {"member_id": "m", "occurred_at_ms": 0}
    events = [
        Lead(lead_id="x", brand="b", lat=1, lon=2, store_id="t", price_zone="special", tier="vip", **shared),
        Lead(lead_id="x", brand="?", in_stock=("t",), **shared),
        Lead(lead_id="y", brand="b", in_stock=("t", "t", "?"), **shared),
        Reservation(
            reservation_id="x",
            version=1,
            brand="b",
            store_id="?",
            starts_at_ms=0,
            ends_at_ms=1,
            status="booked",
            **shared,
        ),
    ]
    requests = columns(events, roster)
    t = roster.store_row("b", "t")
    assert requests.brand.tolist() == [0, -1, 0, 0]
    assert requests.store_row.tolist() == [t, -1, -1, -1]
    assert requests.fixed_store.tolist() == [False, False, False, True]
    assert requests.zone_mask.tolist() == [2, 3, 3, 3]
    assert requests.tier.tolist() == [0, 3, 3, 3]
    assert np.isnan(requests.lat).tolist() == [False, True, True, True]
    assert requests.stock_named.tolist() == [False, True, True, False]
    assert (requests.stock.request.tolist(), requests.stock.row.tolist()) == ([2], [t])
    assert requests.member_hash[0] == requests.member_hash[1] != requests.member_hash[3]
    assert len(columns([], roster)) == 0


def test_an_empty_policy_is_the_default():
    assert parse("", 4) == Policy(version=4)


def test_a_policy_names_only_what_differs():
    policy = parse("radius_km = 5\n[weights]\nowner = 0\n[respond_s]\nvip = 60", 1)
    assert policy.radius_km == 5
    assert policy.weights == Policy().weights | {"owner": 0}
    assert policy.respond_s == Policy().respond_s | {"vip": 60}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("radius_km = ", "not TOML"),
        ("x = " + "[" * 20_000, "not TOML"),
        ("version = 3", "version"),
        ("raduis_km = 3", "raduis_km"),
        ("radius_km = 'far'", "radius_km"),
        ("radius_km = 0", "radius_km"),
        ("radius_km = nan", "radius_km"),
        ("radius_km = inf", "radius_km"),
        ("candidates_min = 0", "candidates_min"),
        ("shortlist_max = 1000", "shortlist_max"),
        ("capacity_default = -1", "capacity_default"),
        ("distance_half_km = 0", "distance_half_km"),
        ("weights = 3", "weights"),
        ("weights.charm = 1", "charm"),
        ("weights.owner = 'much'", "weights.owner"),
        ("weights.owner = -1", "weights.owner"),
        ("weights.owner = nan", "weights.owner"),
        ("weights = {" + ", ".join(f"{each.name}=0" for each in FEATURES) + "}", "weights"),
        ("level_min.vip = 11", "level_min.vip"),
        ("level_min.vip = '5'", "level_min.vip"),
        ("kind_fit.outlet = 1.5", "kind_fit.outlet"),
        ("kind_fit.kiosk = 1", "kind_fit"),
        ("partner_quota.p = -1", "partner_quota.p"),
        ("partner_quota.'a b' = 1", "partner_quota"),
        ("partner_quota.p = 1", "partner_quota"),
        ("reserve_top = 2", "reserve_top"),
        ("skill_level_min = 6", "skill_level_min"),
        ("prior_strength = 0", "prior_strength"),
        ("half_life_days = 0", "half_life_days"),
        ("fair_horizon = -1", "fair_horizon"),
        ("window_remind_h = 0", "window_remind_h"),
        ("owner_half_life_days = 0", "owner_half_life_days"),
        ("contact_cap_per_day = 65", "contact_cap_per_day"),
        ("reminder_cap_per_day = -1", "reminder_cap_per_day"),
        ("loan_days_max = 0", "loan_days_max"),
        ("age_up_s = 0", "age_up_s"),
        ("match_rounds_max = -1", "match_rounds_max"),
        ("respond_s.vip = 0", "respond_s.vip"),
        ("respond_s.king = 5", "respond_s"),
        ("filters = ['active', 'mood']", "mood"),
        ("cell_order = ['store', 'store']", "cell_order"),
        ("cell_order = []", "cell_order"),
        ("cell_order = ['moon']", "cell_order"),
        ("ladder = ['hq', 'near', 'hq']", "ladder"),
        ("ladder = []", "ladder"),
        ("ladder = ['moon']", "ladder"),
        ("[ladder_s]\nnear = 0", "ladder_s.near"),
        ("[ladder_s]\nmoon = 60", "ladder_s"),
        ("tier_order = ['vip']", "tier_order"),
    ],
)
def test_a_wrong_policy_is_refused_by_the_name_of_the_key(text, named):
    with pytest.raises(PolicyError, match=named):
        parse(text, 1)
