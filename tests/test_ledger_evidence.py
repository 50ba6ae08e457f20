"""What is frozen on a sale: everything that decides about its commission, as it stood at the sale."""

from __future__ import annotations

import pytest

from router.local import EmbeddedRedis
from router.rules.money.evidence import inputs_of
from router.state.members import ORIGINS_MAX, SHARES_MAX
from tests.ledger_world import BEGIN_MS, DAY_MS, book_of, refund, sale
from tests.lifecycle_world import guide, lead, store
from topics.bindings import Binding
from topics.catalog import ORDERS, TOUCHES
from topics.fields import Source
from topics.guides import Delegation
from topics.members import Member
from topics.touches import Touch

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def touch(touch_id, kind, at_ms=BEGIN_MS, member_id="m", **more):
    about = {
        "touch_id": touch_id,
        "member_id": member_id,
        "brand": "b",
        "occurred_at_ms": at_ms,
        "kind": kind,
    }
    return Touch(**about | more)


def bound(command_id, kind, at_ms, **more):
    about = {"command_id": command_id, "member_id": "m", "brand": "b", "occurred_at_ms": at_ms}
    return Binding(kind=kind, **about | more)


def frozen(world, order_id="o"):
    """The inputs of an order's base posting; evidence as ``kind party``."""
    [inputs] = [each["inputs"] for each in world.postings("base") if each["order_id"] == order_id]
    inputs_of(inputs)
    return inputs, {f"{each['kind']} {each['party']}" for each in inputs["evidence"]}


def test_binding_loan_and_delegation_stand_as_they_were_at_the_sale(server):
    async def story(world):
        until_ms = BEGIN_MS + 30 * DAY_MS
        run_by = Delegation(team_id="hq", from_ms=0, until_ms=until_ms, share_bp=300)
        await world.put(guide("g1", version=2, capacity=5, delegate=run_by))
        lent = {"to_guide_id": "g3", "until_ms": BEGIN_MS + DAY_MS, "share_bp": 1500}
        await world.put(bound("lent", "lend", BEGIN_MS - 1000, **lent))
        await world.put(bound("after", "bind", BEGIN_MS + 1000, guide_id="g2"))
        await world.put(sale())
        inputs, told = frozen(world)
        assert told == {"binding g1", "loan g3", "delegation hq"}
        [loan] = [each for each in inputs["evidence"] if each["kind"] == "loan"]
        assert loan == {
            "kind": "loan",
            "id": "lent",
            "at_ms": BEGIN_MS - 1000,
            "party": "g3",
            "of": "g1",
            "until_ms": BEGIN_MS + DAY_MS,
            "share_bp": 1500,
        }
        assert inputs["parties"]["hq"]["kind"] == "team"

    book_of(server, story)


def test_what_guides_did_and_who_brought_the_member_is_evidence(server):
    async def story(world):
        shop = Source(channel="tmall", partner="shop")
        await world.put(
            touch("t1", "live", guide_id="g1"),
            touch("t2", "message", direction="out", guide_id="g2"),
            touch("t3", "view", guide_id="g3"),  # nobody did anything
            touch("t4", "view", source=Source(sharer_id="anna")),
            touch("t5", "scan", source=shop),
            touch("t6", "chat", at_ms=BEGIN_MS + 1, guide_id="g3"),  # after the sale
            touch("t7", "view", member_id="anna", at_ms=BEGIN_MS - 5, source=Source(sharer_id="bert")),
        )
        await world.put(lead(source=Source(partner="hotel")))
        holder = world.records()[-1]["guide_id"]
        await world.say("accepted", attempt=1, guide_id=holder)
        await world.put(sale(occurred_at_ms=BEGIN_MS))
        inputs, told = frozen(world)
        wanted = {"binding g1", "live g1", "contacted g2", "share anna", "share bert"}
        assert told == wanted | {"origin shop", "origin hotel", f"accepted {holder}"}
        kinds = {name: party["kind"] for name, party in inputs["parties"].items() if "kind" in party}
        assert kinds["shop"] == "ecommerce"
        assert kinds["hotel"] == "partner"
        [second] = [each for each in inputs["evidence"] if each.get("level") == 2]
        assert (second["party"], second["of"]) == ("bert", "anna")

    book_of(server, story)


def test_the_store_its_region_and_its_managers_are_parties(server):
    async def story(world):
        await world.put(store("t", region="West"), guide("boss2", store_id="t", capacity=0, role="manager"))
        await world.put(guide("boss", version=2, capacity=0, role="guide"))  # no manager any more
        await world.put(sale(), sale("p", store_id="t"), sale("q", store_id=None))
        inputs, _ = frozen(world)
        assert inputs["parties"]["s"] == {"kind": "store", "store_id": "s", "region": "East"}
        assert "boss" not in inputs["parties"]
        elsewhere, _ = frozen(world, "p")
        assert elsewhere["parties"]["boss2"]["kind"] == "manager"
        assert elsewhere["parties"]["g2"]["region"] == "East"
        assert "s" in frozen(world, "q")[0]["parties"]  # the store of who served

    book_of(server, story)


def test_who_is_no_customer_is_told(server):
    async def story(world):
        await world.put(Member(member_id="m", brand="b", version=1, flags=("staff",)))
        await world.put(sale())
        _, told = frozen(world)
        assert told == {"binding g1", "staff m"}

    book_of(server, story)


def test_a_sharer_who_buys_is_no_sharer_of_themselves(server):
    async def story(world):
        await world.put(touch("t", "view", source=Source(sharer_id="m")))
        await world.put(sale())
        _, told = frozen(world)
        assert told == {"binding g1"}

    book_of(server, story)


def test_evidence_that_comes_later_changes_nothing_of_a_sale_or_its_refunds(server):
    async def story(world):
        await world.put(sale())
        before = frozen(world)
        await world.put(touch("t", "live", at_ms=BEGIN_MS - 1, guide_id="g3"))
        await world.again(ORDERS)
        await world.put(refund("r", 100))
        assert frozen(world) == before
        carried = world.postings("reversal")[0]["inputs"]
        assert {name: carried[name] for name in before[0]} == before[0]
        assert world.dead_letters() == []

    book_of(server, story)


def test_the_origin_outlasts_everything_else_that_happens_to_the_member(server):
    async def story(world):
        await world.put(touch("first", "scan", at_ms=BEGIN_MS - 300, source=Source(partner="hotel")))
        await world.put(*(touch(f"t{n}", "chat", at_ms=BEGIN_MS - n, guide_id="g1") for n in range(200)))
        await world.put(sale())
        inputs, told = frozen(world)
        assert "origin hotel" in told
        assert len(inputs["evidence"]) < 100

    book_of(server, story)


def test_who_first_brought_the_member_is_pushed_out_by_nobody_who_came_later(server):
    async def story(world):
        def came(name, at_ms, **source):
            return touch(name, "view", at_ms=at_ms, source=Source(**source))

        flat = came("first", BEGIN_MS - 40 * HOUR_MS, partner="flat")
        rivals = [came(f"x{n}", BEGIN_MS - 39 * HOUR_MS + n, partner="rival") for n in range(33)]
        crowd = [came(f"y{n}", BEGIN_MS - 38 * HOUR_MS + n, partner=f"p{n}") for n in range(40)]
        shares = [came(f"z{n}", BEGIN_MS - 37 * HOUR_MS + n, sharer_id=f"m{n}") for n in range(40)]
        await world.put(flat, *rivals, *crowd, *shares)
        await world.again(TOUCHES)  # whatever comes again, in any order, ends at the same
        await world.tracking.touch(list(reversed(world.log[TOUCHES.name])))
        await world.put(sale())
        evidence = frozen(world)[0]["evidence"]
        origins = [(each["party"], each["id"]) for each in evidence if each["kind"] == "origin"]
        assert origins[:2] == [("flat", "first"), ("rival", "x0")]
        assert len(origins) == ORIGINS_MAX
        sharers = [each["party"] for each in evidence if each["kind"] == "share"]
        assert sharers == [f"m{n}" for n in range(40 - SHARES_MAX, 40)]  # of shares the last one counts
        assert await world.origins_differ() == {}
        world.log[TOUCHES.name] = world.log[TOUCHES.name][5:]  # the log forgets, Redis does not
        assert await world.origins_differ() == {}

    book_of(server, story)
