"""The commission section of a policy: refused by the name of the key, chosen by order, frozen on postings."""

from __future__ import annotations

import json

import msgspec
import pytest

from router.rules.money.evidence import Inputs, Sale, frozen, inputs_of
from router.rules.money.splitting import SPLIT_RULES
from scoring.policy import Policy, PolicyError, parse
from scoring.terms import Commission, SplitKind, SplitRule, Terms
from tests.commission_world import proof, sale, shared
from topics.fields import Source
from topics.orders import Order

RULE = '[[commission.splits]]\nname = "r"\nkind = "{}"\n'
FIXED, EFFORT, WINNER = (RULE.format(kind) for kind in ("fixed_by_role", "effort_weighted", "winner_served"))


def order(**more):
    return Order(order_id="o1", member_id="m1", brand="b", occurred_at_ms=0, status="paid", amount_fen=9,
                 commission_fen=9, **more)  # fmt: skip


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("commission = 3", "commission"),
        ("[commission]\nsplit = 3", "`split`"),
        ("[commission]\nrights_days = 1.5", "commission.rights_days"),
        ("[commission]\nrights_days = -1", "commission.rights_days"),
        ("[commission]\nlevels_max = 3", "commission.levels_max"),
        ("[commission]\nledger_utc_offset_h = 15", "commission.ledger_utc_offset_h"),
        ("[commission]\nadjust_check_fen = '1'", "commission.adjust_check_fen"),
        ('[commission]\nbase_order = ["manager"]', "commission.base_order[0]"),
        ("[commission]\nbase_order = []", "base_order: holds at least one role, none twice"),
        ('[commission]\nbase_order = ["owner", "owner"]', "base_order: "),
        ("[commission.attribution]\nowner = 4000", "commission.attribution.owner"),
        ("[commission.attribution]\nstore = 4", "'store'"),
        ('[commission.marks]\nstaff = "jail"', "commission.marks.staff"),
        ("[[commission.splits]]\nkind = 'winner_served'", "`name`"),
        (RULE.format("by_luck"), "commission.splits[0].kind"),
        (FIXED + "shares = { server = 10001 }", "commission.splits[0].shares.server"),
        (FIXED + "shares = { server = 0.5 }", "commission.splits[0].shares.server"),
        (FIXED + "shares = { luck = 1 }", "'luck'"),
        (FIXED + "shares = { server = 9000, owner = 2000 }", "splits[0].shares: sum to 11000 basis points"),
        (FIXED, "splits[0].shares: at least one is above 0"),
        (FIXED + "shares = { server = 1 }\nefforts = { chat = 1 }", "splits[0].efforts: have no effect"),
        (FIXED + "shares = { server = 1 }\nfloors = { server = 6000, owner = 6000 }",
         "splits[0].floors: sum to"),
        (EFFORT + "efforts = { chat = -1 }", "commission.splits[0].efforts.chat"),
        (EFFORT + "efforts = { chat = 0 }", "splits[0].shares: at least one is above 0, or an effort"),
        (EFFORT + "shares = { server = 1 }\ncaps = { server = 1 }\nfloors = { server = 2 }",
         "splits[0].floors: server is above its cap"),
        (EFFORT + 'shares = { server = 1 }\ncaps = { store = 1 }\nunclaimed = ["store"]',
         "splits[0].unclaimed: store has a cap"),
        (WINNER + "shares = { server = 1 }", "splits[0].shares: has no effect under winner_served"),
        (WINNER + WINNER, "splits[0].name: r is the name of another rule"),
        ('[commission.default]\nname = "d"\nkind = "winner_served"\nchannels = ["a"]',
         "default: takes every order"),
        ("[commission.default]\nname = 'd'\nkind = 'fixed_by_role'\nshares = { owner = 'x' }",
         "commission.default.shares.owner"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_refused_by_the_name_of_its_key(toml, message):
    with pytest.raises(PolicyError) as refused:
        parse(toml, 1)
    assert message in str(refused.value)


def test_the_default_works_untuned():
    assert Policy().commission == parse("", 1).commission == Commission()
    assert Commission().terms(order(), 1).rule.kind == "effort_weighted"
    assert {*Commission().attribution} == {
        "owner",
        "server",
        "sharer",
        "lender",
        "team",
        "ecommerce",
        "partner",
    }


def test_every_kind_of_rule_can_be_named():
    assert {*SPLIT_RULES} == {*SplitKind.__args__}


TOML = """
[[commission.splits]]
name = "stream"
kind = "winner_served"
channels = ["live"]
price_zones = ["full"]
[[commission.splits]]
name = "joint"
kind = "fixed_by_role"
partners = ["flat"]
shares = { server = 5000, partner = 2000 }
unclaimed = ["store"]
[[commission.splits]]
name = "scan"
kind = "winner_bound"
sources = ["qr"]
[commission.default]
name = "rest"
kind = "effort_weighted"
efforts = { visit = 1 }
"""


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "rest"),
        ({"channel": "live"}, "rest"),
        ({"channel": "live", "price_zone": "full"}, "stream"),
        ({"channel": "live", "price_zone": "special"}, "rest"),
        ({"source": Source(partner="flat")}, "joint"),
        ({"source": Source(partner="loft")}, "rest"),
        ({"source": Source(channel="qr")}, "scan"),
        ({"source": Source(channel="qr", partner="flat")}, "joint"),
        ({"channel": "live", "price_zone": "full", "source": Source(channel="qr")}, "stream"),
    ],
)
def test_the_first_rule_that_takes_an_order_is_its_rule(more, name):
    assert parse(TOML, 4).commission.terms(order(**more), 4).rule.name == name


def test_m13_an_old_sale_is_divided_by_the_version_that_it_was_sold_under():
    """The terms go to the posting and back as JSON, and no later policy is asked."""
    old, new = (
        parse(TOML, 4),
        parse("[commission.default]\nname = 'n'\nkind = 'fixed_by_role'\nshares.store = 1\n", 5),
    )
    sold = frozen(
        Inputs(
            order=Sale(order_id="o1", member_id="m1", occurred_at_ms=9, amount_fen=99, commission_fen=90,
                       store_id="s1", served_by="g2"),
            terms=old.commission.terms(order(channel="live", price_zone="full"), 4),
        )
    )  # fmt: skip
    posted = json.loads(json.dumps(sold))
    assert [(each.party, each.fen) for each in shared(posted, 40)] == [("g2", 40)]
    rule = msgspec.to_builtins(new.commission.terms(order(), 5).rule)
    later = posted | {"terms": posted["terms"] | {"rule": rule}}
    assert [(each.party, each.fen) for each in shared(later, 40)] == [("s1", 40)]


def test_m13_a_posting_carries_the_whole_rule_so_that_a_default_can_change_later():
    """Also what the policy left at its default."""
    posted = frozen(inputs_of(sale(proof("binding", "g1"), rule={"kind": "winner_bound"})))
    assert {*posted["terms"]["rule"]} == {*SplitRule.__struct_fields__}
    assert {*posted["terms"]} == {*Terms.__struct_fields__}
