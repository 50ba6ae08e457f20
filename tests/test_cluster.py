"""A real cluster of three: slots that move and masters that go away are outages for their cells, and pass."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from router.errors import OutageError
from router.rules.offers import Offer
from router.state import keys
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from tests.gateway_desk import Desk, Phone
from tests.gateway_world import made
from tests.parts import RealCluster

pytestmark = pytest.mark.real

MARKED = True


@pytest.fixture(scope="module")
def cluster():
    with RealCluster() as cluster:
        yield cluster


@pytest.fixture
async def arbiter(cluster):
    scripts = Scripts(cluster.url)
    await patiently(scripts.redis.flushall)
    yield Arbiter(scripts)
    await scripts.close()


async def patiently(ask):
    """Ask until it is no outage any more; how often it was one."""
    for outages in range(1_500):
        try:
            await ask()
        except OutageError:
            await asyncio.sleep(0.02)
        else:
            return outages
    raise AssertionError("an outage that does not pass")


async def open_up(arbiter, cell, capacity):
    await arbiter.set_capacities([(cell, "g", 1, capacity)])
    assert await arbiter.mark([cell], await arbiter.begin([cell], "token"))


def offer(cell, lead):
    return Offer(
        cell=cell,
        marked=MARKED,
        rules="1 0 0123 1 1 3 1 1 1",
        kind="lead",
        lead_id=lead,
        member_id="m",
        digest="d",
        shortlist="g|1|s|0.5000|near",
        about="7 3 hq near 3 9 0 9",
        cause=f"lead|{lead}",
        move="",
    )


async def test_f31_slots_that_move_under_claims_change_nothing(cluster, arbiter):
    """Each lead is claimed once, whatever half of its cell's keys is where; MOVED and ASK are followed."""
    cell, capacity = "b/moves", 50
    await open_up(arbiter, cell, capacity)
    answers, outages, done = {}, 0, asyncio.Event()

    async def claim_on():
        nonlocal outages
        number = 0
        while not (done.is_set() and number >= 100):
            lead = f"l{number}"

            async def claim(lead=lead):
                [answers[lead]] = await arbiter.claim([offer(cell, lead)])

            outages += await patiently(claim)
            number += 1
            await asyncio.sleep(0)

    async def until(condition):
        while not condition():
            assert not claims.done(), claims.result()
            await asyncio.sleep(0.01)

    claims = asyncio.create_task(claim_on())
    source = cluster.node_of(keys.capacity(cell))
    [target, third] = [node for node in cluster.nodes if node is not source]
    slot = source.cli("CLUSTER", "KEYSLOT", keys.capacity(cell))
    await until(lambda: len(answers) >= 20)
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source.cli("CLUSTER", "MYID"))
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target.cli("CLUSTER", "MYID"))
    moving = source.cli("CLUSTER", "GETKEYSINSLOT", slot, 10_000).splitlines()
    for half in (moving[::2], moving[1::2]):
        source.cli("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *half)
        seen = outages + len(answers)
        await asyncio.sleep(0.2)  # claims meet a cell that is in two places
        assert half is not moving[1::2] or outages + len(answers) > seen
    for node in (target, source, third):
        node.cli("CLUSTER", "SETSLOT", slot, "NODE", target.cli("CLUSTER", "MYID"))
    reached = len(answers)
    await until(lambda: len(answers) > reached + 20)
    done.set()
    await claims
    results = Counter(answer.result for answer in answers.values())
    assert results["ok"] == capacity
    assert results.keys() <= {"ok", "waiting", "replay"}
    assert await arbiter.loads([cell]) == {cell: {"g": capacity}}


async def test_f32_a_master_that_is_away_stops_its_own_cells_alone(cluster, arbiter):
    """Claims go on in the cells of the others, and in its own once it is back."""
    cells = {cluster.node_of(keys.capacity(cell)): cell for cell in (f"b/{n}" for n in range(60))}
    [(gone, lost), (_, kept), *_] = cells.items()
    for cell in (lost, kept):
        await open_up(arbiter, cell, 1_000)
    gone.kill()
    for number in range(30):
        with pytest.raises(OutageError):
            await arbiter.claim([offer(lost, f"l{number}")])
        await patiently(lambda number=number: arbiter.claim([offer(kept, f"l{number}")]))
    assert await arbiter.loads([kept]) == {kept: {"g": 30}}
    gone.start()
    await patiently(lambda: open_up(arbiter, lost, 1_000))
    await patiently(lambda: arbiter.claim([offer(lost, "back")]))
    assert await arbiter.loads([lost]) == {lost: {"g": 1}}


async def test_f57_feeds_on_three_nodes_are_followed_by_one_reader(arbiter):
    desk = Desk(arbiter.scripts)
    guides = [("b", f"g{number}") for number in range(40)]
    phones = [Phone() for _ in guides]
    await patiently(desk.whole)
    await patiently(lambda: desk.tail._reading.catch_up({guide: [""] for guide in guides}))
    await patiently(lambda: desk.tail._reading.moved({keys.feed(*guide): "0-0" for guide in guides}))
    for guide, phone in zip(guides, phones, strict=True):
        await desk.join(phone, guide)
        await desk.project(made("a", guide_id=guide[1]), guide=guide)
    await desk.look()
    assert [await phone.read() for phone in phones] == [["snapshot", "card"]] * len(guides)
