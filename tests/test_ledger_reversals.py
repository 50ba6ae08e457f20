"""A correction names what it reverses, and reverses it once; whatever else stands in the book is named."""

from __future__ import annotations

import orjson
import pytest
from msgspec.structs import replace

from router.local import EmbeddedRedis
from router.rules.money.postings import digest_of, identity
from tests.ledger_world import PERIOD, book_of, line, refund, sale
from topics.catalog import COMMISSIONS, ORDERS
from topics.codec import decode, encode
from topics.commissions import Posting


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def test_m6_a_refund_makes_one_reversal_of_the_base_and_one_of_the_split_however_often_it_comes(server):
    async def story(world):
        await world.put(sale(), refund("r", 400), refund("r", 400), refund("q", 100))
        await world.again(ORDERS)
        await world.days(8)
        await world.command("close", period=PERIOD)
        await world.put(refund("r", 400), refund("r", 300))
        base, overlay = (identity(kind, "b", "o") for kind in ("base", "overlay"))
        made = [(each["reverses"], each["inputs"]["refunds"][-1][0]) for each in world.postings("reversal")]
        assert made == [(base, "r"), (overlay, "r"), (base, "q"), (overlay, "q")]
        assert world.dead_letters() == ["conflict"]
        # what corrects by hand reverses nothing: it says which order it is about
        lines = (line("settled", "g2", -7), line("commission", "group", 7, "group"))
        await world.command("adjust", lines=lines, reason="r was a mistake", order_id="o")
        [adjusted] = world.postings("adjust")
        assert ("reverses" in adjusted, adjusted["inputs"]["about"]) == (False, "o")
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize("of", ["base", "overlay"])
@pytest.mark.parametrize("reverses", ["reversal", "other", "nothing"])
def test_m6_a_reversal_in_the_book_of_anything_but_its_own_sale_is_named(server, of, reverses):
    """Above all of a reversal: that would give back what was given back."""

    async def story(world):
        await world.put(sale(), sale("p"), refund("q", 100), refund("r", 400))
        cause = {"base": "overlay", "overlay": "base"}[of]
        wrong = {
            "reversal": identity("reversal", "b", "o", "q", of),
            "other": identity(of, "b", "p"),
            "nothing": identity(cause, "b", "o"),
        }[reverses]
        name = identity("reversal", "b", "o", "r", of)
        log = world.log[COMMISSIONS.name]
        [at] = [row for row, record in enumerate(log) if orjson.loads(record.value)["posting_id"] == name]
        forged = replace(decode(Posting, log[at].value), reverses=wrong)
        forged = replace(forged, digest=digest_of(forged))
        log[at] = log[at]._replace(value=encode(forged))
        assert {fault.posting_id for fault in world.audit().faults} == {name}

    book_of(server, story)


def test_m6_a_second_reversal_of_the_same_refund_is_named(server):
    async def story(world):
        await world.put(sale(), refund("r", 400))
        first = decode(Posting, world.log[COMMISSIONS.name][2].value)
        inputs = first.inputs | {"refunds": [["r", 400], ["r", 400]], "refunded_fen": [4000, 4000]}
        for posting_id, more in (("r" + "0" * 24, {}), ("r" + "1" * 24, {"inputs": inputs})):
            seq = len(world.log[COMMISSIONS.name]) + 1
            forged = replace(first, posting_id=posting_id, book_seq=seq, **more)
            forged = replace(forged, digest=digest_of(forged))
            world._append(COMMISSIONS.name, b"b", encode(forged))
            assert posting_id in {fault.posting_id for fault in world.audit().faults}

    book_of(server, story)
