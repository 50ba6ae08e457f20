"""A guide, a store and a partner may bear one id: systems of before number each of them from 1."""

from __future__ import annotations

import pytest

from router.local import EmbeddedRedis
from router.rules.money.bearers import AmbiguousError
from router.rules.money.extract import Extract
from router.rules.money.statement import statement
from tests.commission_world import proof, shared
from tests.commission_world import sale as inputs_with
from tests.ledger_world import RULES, book_of, sale
from tests.lifecycle_world import BEGIN_MS, guide, store
from topics.catalog import COMMISSIONS, ORDERS
from topics.fields import Source

#: Store 7 in the East sells, by guide 7 of store t in the West, to a member whom partner 7 supplied.
RULES_OF_7 = RULES.replace("server = 5000, store = 2000", "server = 4000, partner = 1000, store = 2000")


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def sale_of_7(**more):
    return sale(store_id="7", served_by="7", source=Source(partner="7"), **more)


def of_7(story):
    people = [store("7", region="East"), store("t", region="West"), guide("7", store_id="t")]

    def run(server):
        book_of(server, story, *people, rules=RULES_OF_7)

    return run


async def pending(world, name, kind):
    held = await world.earns(name, kind)
    return {field: int(fen) for field, fen in held.items() if field.startswith("pending|")}


def test_each_has_earnings_of_their_own_and_they_count_where_they_belong(server):
    async def story(world):
        await world.put(sale_of_7())
        [base, overlay] = world.postings()
        had = {line["role"]: line["fen"] for line in overlay["lines"] if line["fen"] > 0}
        assert set(had) == {"server", "partner", "store"}
        for kind, role in (("party", "server"), ("party-store", "store"), ("party-partner", "partner")):
            assert await pending(world, "7", kind) == {f"pending|{role}": had[role]}
        assert await pending(world, "7", "store") == {"pending|store": had["store"]}
        assert (await pending(world, "t", "store"))["pending|server"] == had["server"]
        assert (await pending(world, "East", "region"))["pending|store"] == had["store"]
        assert (await pending(world, "West", "region")) == {"pending|server": had["server"]}
        assert base["inputs"]["parties"] == overlay["inputs"]["parties"]
        assert await world.differences() == ({}, [])

    of_7(story)(server)


def test_what_each_has_goes_its_whole_way_apart(server):
    async def story(world):
        await world.put(sale_of_7())
        await world.days(8)
        as_party, as_place = await world.earns("7", "party-store"), await world.earns("7", "store")
        assert {field for field in as_party if field.startswith("earned")} == {"earned|store"}
        assert as_place["earned|store"] == as_party["earned|store"]
        assert await world.differences() == ({}, [])

    of_7(story)(server)


def test_a_statement_asks_which_of_them_is_meant(server):
    async def story(world):
        await world.put(sale_of_7(), sale("p"))
        book = Extract("b")
        for record in world.log[COMMISSIONS.name]:
            book.posting(record.value)
        with pytest.raises(AmbiguousError, match=r"^7 is .*: write guide:7 or store:7 or partner:7$"):
            statement(book, "7", None, BEGIN_MS)
        told = {kind: statement(book, f"{kind}:7", None, BEGIN_MS) for kind in ("guide", "store", "partner")}
        assert {kind: [line.role for line in each.lines] for kind, each in told.items()} == {
            "guide": ["server"],
            "store": ["store"],
            "partner": ["partner"],
        }
        assert [each.party for each in told["store"].parties] == ["7"]
        assert told["guide"].parties == ()
        # who bears an id alone needs no word before it
        assert statement(book, "g2", None, BEGIN_MS) == statement(book, "guide:g2", None, BEGIN_MS)
        assert statement(book, "s", None, BEGIN_MS).of == ("party", "store")
        assert statement(book, "East", None, BEGIN_MS).of == ("region",)
        assert world.dead_letters() == []
        assert len(world.log[ORDERS.name]) == len({"o", "p"})

    of_7(story)(server)


@pytest.mark.parametrize("name", ["s1", "flat"])
def test_a_member_with_the_number_of_a_store_or_a_partner_deals_with_nobody_of_their_own(name):
    source = {"partner": "flat"}
    rule = {"kind": "fixed_by_role", "shares": {"server": 5000, "store": 3000, "partner": 2000}}
    told = {"served_by": "g2", "store_id": "s1", "source": source, "rule": rule}
    of_name, of_m1 = (
        {(each.role, each.party): each.fen for each in shared(inputs_with(member_id=who, **told), 10_000)}
        for who in (name, "m1")
    )
    assert of_name == of_m1


def test_what_a_guide_did_counts_for_the_guide_and_not_for_the_store_of_that_number():
    parties = {"s1": {"store_id": "s2"}, "store:s1": {"kind": "store", "store_id": "s1"}}
    rule = {"kind": "effort_weighted", "shares": {"server": 1000, "store": 1000}, "efforts": {"visit": 1000}}
    told = shared(
        inputs_with(proof("visit", "s1"), served_by="g2", store_id="s1", parties=parties, rule=rule), 3000
    )
    assert {(each.role, each.party): each.fen for each in told} == {
        ("server", "g2"): 1000,
        ("server", "s1"): 1000,
        ("store", "s1"): 1000,
    }
