"""F08: whatever the ledger was doing when its worker was killed, the book has one posting for each cause."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import orjson
import pytest

from router.rules.money.postings import identity
from router.state import keys
from tests.faults.hooks import MONEY_POINTS
from tests.faults.scene import BRAND, KILLED, now_ms
from topics.catalog import COMMISSIONS, ORDERS
from topics.orders import Order

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
#: Orders that the deadly batch brings, each with a refund.
COUNT = 3
RATE_PER_S = 40


@dataclass
class Death:
    """What was there when a worker had been killed with a batch of its own in work."""

    status: int
    posted: set
    published: set
    committed: bool


@dataclass
class Killed:
    """What became of all of it."""

    scene: object
    causes: set
    deaths: dict = field(default_factory=dict)


def sold(name, **more):
    fields = {"member_id": f"m-{name}", "occurred_at_ms": now_ms(), "status": "paid", "amount_fen": 10_000}
    fields |= {"commission_fen": 1001, "store_id": "s1", "served_by": "a"}
    return Order(order_id=name, brand=BRAND, **fields | more)


def given_back(order, refund_id, fen):
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    back = {"status": "refunded", "refund_id": refund_id, "commission_fen": fen, "amount_fen": 10 * fen}
    return Order(**fields | back)


def causes_of(events):
    """The ids of the postings that records of ``orders`` must make, the splits aside."""
    return {
        identity("base", BRAND, each.order_id)
        if each.status == "paid"
        else identity("reversal", BRAND, each.order_id, each.refund_id, "base")
        for each in events
    }


def sales(number):
    """A sale with its refunds, if it has any; every tenth comes twice."""
    order = sold(f"n-{number}", member_id=f"m{number % 16}")
    made = [order, *([given_back(order, "r", 7)] if number % 3 == 0 else [])]
    made += [given_back(order, "q", 500)] if number % 9 == 0 else []
    return made * (2 if number % 10 == 0 else 1)


def die(scene, point):
    """A worker gets a batch of one partition, and is killed with it at a point."""
    scene.worker.start(kill={point: f'"{point}-'})
    orders = [sold(f"{point}-{number}", member_id=f"m-{point}") for number in range(COUNT)]
    events = [*orders, *(given_back(order, "r", 300) for order in orders)]
    [(partition, first), *_] = scene.publish(ORDERS, *events)
    status = scene.worker.wait(60)
    scene.read_for(0.3)
    mine = causes_of(events)
    published = {each["posting_id"] for each in scene.events(COMMISSIONS, BRAND)}
    posted = {name for name in mine if scene.redis.exists(keys.posting(BRAND, name))}
    offset = scene.committed().get((scene.prefix + ORDERS.name, partition), 0)
    return events, Death(status, posted, mine & published, offset > first)


@pytest.fixture(scope="module")
def killed(kind):
    with kind.redis() as redis, kind.scene(redis) as scene:
        with scene.sending(ORDERS, sales, rate_per_s=RATE_PER_S) as events:
            deaths, deadly = {}, []
            for point in MONEY_POINTS:
                more, deaths[point] = die(scene, point)
                deadly += more
            scene.worker.start()
            scene.read_for(2)
        causes = causes_of([*events, *deadly])
        scene.until(lambda: causes <= set(book(scene)), "everything is in the book")
        unpublished = keys.unpublished(BRAND)
        scene.until(lambda: not scene.redis.exists(unpublished), "everything is known to be published")
        scene.worker.stop()
        yield Killed(scene, causes, deaths)


def book(scene):
    """Each posting once, by its id."""
    return {each["posting_id"]: each for each in scene.events(COMMISSIONS, BRAND)}


@pytest.mark.parametrize(
    ("point", "posted", "published"), [("m1", False, False), ("m2", True, False), ("m3", True, True)]
)
def test_f08_killed_between_posting_publishing_and_acknowledging(killed, point, posted, published):
    """What was posted, published and acknowledged when the worker was gone; a batch may come in parts."""
    death = killed.deaths[point]
    assert (death.status, death.committed) == (KILLED, False)
    assert (bool(death.posted), bool(death.published)) == (posted, published)
    assert not published or death.published == death.posted


def test_f08_after_all_deaths_each_cause_has_one_posting(killed):
    """However often a record came, its postings have one id, one number and the same bytes."""
    scene, found = killed.scene, book(killed.scene)
    copies = {}
    for record in scene.records[COMMISSIONS.name]:
        copies.setdefault(orjson.loads(record.value())["posting_id"], set()).add(record.value())
    assert {len(each) for each in copies.values()} == {1}
    of_base = {name for name, each in found.items() if each["kind"] == "base"}
    of_base |= {name for name, each in found.items() if each.get("reverses", "").startswith("b")}
    assert of_base == killed.causes
    numbers = Counter(each["book_seq"] for each in found.values())
    assert sorted(numbers) == list(range(1, len(found) + 1))
    assert set(numbers.values()) == {1}
    # each has its split beside it, which changes nothing of the sum
    assert len(found) == 2 * len(killed.causes)
    assert not any(sum(line["fen"] for line in each["lines"]) for each in found.values())


def test_f08_after_all_deaths_verify_finds_no_difference_in_book_and_redis(killed):
    scene = killed.scene
    done = subprocess.run(
        [sys.executable, "-m", "router", "commission", "verify"],
        env={**os.environ, **scene.environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "difference zero; redis: as the book says" in done.stdout
    assert f"{len(book(scene))} postings worked out again" in done.stdout.replace(",", "")
    scene.check()
