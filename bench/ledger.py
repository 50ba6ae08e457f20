"""Orders and refunds through Redis: the real ledger beside one that writes each posting the obvious way.

Both gather what they know of a member from the same server, both keep each posting as JSON and move the
balances of its parties; nothing is sent to Kafka. The naive one takes one record at a time, rounds by
``Decimal`` and writes with MULTI; it has no period, no seal, no standing, and posts twice what comes twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import wraps
from random import Random
from typing import Any, NamedTuple

import orjson
from redis.asyncio.connection import AbstractConnection

from router.errors import EffectError
from router.ledger.carrying import Carrier
from router.ledger.gathering import Gathering
from router.ledger.ledger import Ledger
from router.local import EmbeddedRedis
from router.outbox import Outbox
from router.reference import Reference
from router.rules.intake import Record, Taken
from router.rules.money.entitlement import Entitlement
from router.state.arbiter import Arbiter
from router.state.money import Money
from router.state.redis import Scripts
from router.tracking import Tracking
from topics.bindings import Binding
from topics.catalog import BINDINGS, COMMISSIONS, GUIDES, ORDERS, POLICIES, STORES, TOUCHES, Topic
from topics.codec import encode, key_of
from topics.fields import Event
from topics.guides import Guide
from topics.orders import Order
from topics.policies import Policy
from topics.stores import Store
from topics.touches import Touch

BRAND = "b"
#: As many records as a worker takes at a time.
BATCH = 500
#: More than a worker waits: on a busy machine a figure is late, not wrong.
TIMEOUT_S = 30.0
DAY_MS = 86_400_000
MEMBERS, GUIDES_EACH, STORE_IDS = 2_000, 5, ("store0", "store1")
GUIDE_IDS = [f"guide{number}" for number in range(GUIDES_EACH * len(STORE_IDS))]
COMMISSIONS_FEN = (990, 3_333, 4_999, 9_990, 12_800, 29_999)
#: As a group may settle today: to who is bound; so nearly every split moves something.
RULES = '[commission]\nbase_order = ["owner", "server", "store"]\n'
#: A fifth of the orders is given back in part.
BACK_SHARE = 0.2


class Run(NamedTuple):
    """What it took to post some records; CPU of this process, and of Redis."""

    postings: int
    cpu_s: float
    redis_cpu_s: float
    wall_s: float
    round_trips: int


@dataclass(slots=True)
class InMemory:
    """Stands where the publisher does."""

    values: list[bytes] = field(default_factory=list)

    async def publish(self, records: Iterable[Any]) -> None:
        """Keep what would go to the broker."""
        self.values += [each.value for each in records]


@contextmanager
def round_trips() -> Iterator[list[int]]:
    """Count how often something is sent to Redis and waited for."""
    count, send = [0], AbstractConnection.send_packed_command

    @wraps(send)
    async def counted(*args: Any, **given: Any) -> None:  # noqa: ANN401 - handed through
        count[0] += 1
        await send(*args, **given)

    AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]
    try:
        yield count
    finally:
        AbstractConnection.send_packed_command = send  # type: ignore[method-assign]


def records(topic: Topic, events: Iterable[Event], at_ms: int) -> list[Record]:
    """Events as a worker reads them."""
    return [
        Taken(topic.name, 0, row, key_of(topic, event), encode(event), at_ms)
        for row, event in enumerate(events)
    ]


def sold(orders: int, random: Random, now_ms: int) -> list[Order]:
    """Orders, and a while after some of them what is given back, once of each."""
    out: list[Order] = []
    refunded: set[str] = set()
    for number in range(orders):
        fen = random.choice(COMMISSIONS_FEN)
        order = Order(
            order_id=f"o{number}",
            member_id=f"m{random.randrange(MEMBERS)}",
            brand=BRAND,
            occurred_at_ms=now_ms,
            status="paid",
            amount_fen=20 * fen,
            commission_fen=fen,
            store_id=random.choice(STORE_IDS),
            served_by=random.choice(GUIDE_IDS),
        )
        out.append(order)
        if random.random() < BACK_SHARE:
            sale = random.choice(out[-BATCH:])
            if sale.order_id not in refunded:
                refunded.add(sale.order_id)
                back = random.randint(1, sale.commission_fen)
                fields = {name: getattr(sale, name) for name in sale.__struct_fields__}
                fields |= {"status": "refunded", "refund_id": f"r{number}", "commission_fen": back}
                out.append(Order(**fields | {"amount_fen": 20 * back}))
    return out


async def world(scripts: Scripts, random: Random, now_ms: int) -> tuple[Ledger, InMemory]:
    """A ledger of two stores, whose members are bound to guides who did something for some of them."""
    reference = Reference(lambda *_: None)
    stores = [
        Store(store_id=name, brand=BRAND, version=1, lat=31.0, lon=121.0, kind="franchise", active=True)
        for name in STORE_IDS
    ]
    guides = [
        Guide(guide_id=name, brand=BRAND, version=1, store_id=STORE_IDS[row % 2], active=True)
        for row, name in enumerate(GUIDE_IDS)
    ]
    told: list[tuple[Topic, Event]] = [(POLICIES, Policy(brand=BRAND, version=1, toml=RULES))]
    told += [(STORES, store) for store in stores] + [(GUIDES, guide) for guide in guides]
    for topic, event in told:
        reference.apply(topic, key_of(topic, event), encode(event))
    reference.refresh(now_ms)
    members = Arbiter(scripts).members
    tracking, ago_ms = Tracking(members), now_ms - 20 * DAY_MS
    then: dict[str, Any] = {"brand": BRAND, "occurred_at_ms": ago_ms}
    for first in range(0, MEMBERS, BATCH):
        names = [f"m{number}" for number in range(first, min(first + BATCH, MEMBERS))]
        bound = [
            Binding(command_id=f"c-{m}", member_id=m, kind="bind", guide_id=random.choice(GUIDE_IDS), **then)
            for m in names
        ]
        met = [
            Touch(touch_id=f"t{row}-{m}", member_id=m, kind="visit", guide_id=who, store_id="store0", **then)
            for m in names
            for row, who in enumerate(random.sample(GUIDE_IDS, random.randint(0, 3)))
        ]
        if await tracking.bind(records(BINDINGS, bound, ago_ms)):
            raise EffectError("a binding of the bench was refused")
        if await tracking.touch(records(TOUCHES, met, ago_ms)):
            raise EffectError("a touch of the bench was refused")
    publisher = InMemory()
    carrier = Carrier(
        reference=reference,
        money=Money(scripts),
        gathering=Gathering(members, reference),
        publisher=publisher,  # type: ignore[arg-type] # all that is asked of it
        outbox=Outbox("", {COMMISSIONS.name: 1}),
    )
    ledger = Ledger(carrier)
    await ledger.open()
    return ledger, publisher


async def posted(url: str, orders: int, seed: int, now_ms: int) -> Run:
    """The real ledger, batch by batch."""
    random, scripts = Random(seed), Scripts(url, timeout_s=TIMEOUT_S)  # noqa: S311 - no secret
    try:
        ledger, publisher = await world(scripts, random, now_ms)
        those = records(ORDERS, sold(orders, random, now_ms), now_ms)

        async def work() -> int:
            for first in range(0, len(those), BATCH):
                if refusals := await ledger.orders(those[first : first + BATCH]):
                    raise EffectError(f"an order of the bench was refused: {refusals[0].detail}")
            return len(publisher.values)

        return await _timed(scripts, work)
    finally:
        await scripts.close()


async def naively_posted(url: str, orders: int, seed: int, now_ms: int) -> Run:
    """One record at a time, each posting written the obvious way."""
    random, scripts = Random(seed), Scripts(url, timeout_s=TIMEOUT_S)  # noqa: S311 - no secret
    try:
        ledger, _ = await world(scripts, random, now_ms)
        those, gathering = sold(orders, random, now_ms), ledger.carrier.gathering

        async def work() -> int:
            return sum([await _naive(scripts.redis, gathering, order) for order in those])

        return await _timed(scripts, work)
    finally:
        await scripts.close()


async def _naive(redis: Any, gathering: Gathering, order: Order) -> int:  # noqa: ANN401 - redis-py
    name = f"naive:order:{order.order_id}"
    if order.status == "paid":
        [inputs] = await gathering.gather([order])
    else:
        inputs = orjson.loads(await redis.get(name))
    sign = 1 if order.status == "paid" else -1
    split = Entitlement.of(inputs)
    (settled,) = split.base(order.commission_fen)
    fens = decimal_shares(order.commission_fen, split.lot.weights, split.lot.total)
    moves = dict(zip(split.lot.keys, fens, strict=True))
    whose = (settled.role, settled.party)
    over = moves | {whose: moves.get(whose, 0) - order.commission_fen}
    pipeline = redis.pipeline(transaction=True)
    for kind, lines in (("base", {whose: order.commission_fen}), ("overlay", over)):
        posting = {
            "posting_id": f"{kind}-{order.order_id}-{order.refund_id or ''}",
            "lines": [[role, party, sign * fen] for (role, party), fen in lines.items()],
            "inputs": inputs,
        }
        pipeline.set(f"naive:posting:{posting['posting_id']}", orjson.dumps(posting))
        for (role, party), fen in lines.items():
            pipeline.hincrbyfloat(f"naive:balance:{party}", role, sign * fen / 100)
    if order.status == "paid":
        pipeline.set(name, orjson.dumps(inputs))
    await pipeline.execute()
    return 2


def decimal_shares(fen: int, weights: Sequence[int], total: int) -> list[int]:
    """Rounded half up, and the odd fen to the first who is listed."""
    whole = Decimal(fen)
    out = [int((whole * w / total).quantize(Decimal(1), ROUND_HALF_UP)) for w in weights]
    out[0] += fen - sum(out)
    return out


async def _timed(scripts: Scripts, work: Callable[[], Any]) -> Run:
    with round_trips() as trips:
        redis_s, began, cpu_s = await _cpu_s(scripts), time.monotonic(), time.process_time()
        before = trips[0]
        postings = await work()
        cpu_s, wall_s, sent = time.process_time() - cpu_s, time.monotonic() - began, trips[0] - before
        return Run(postings, cpu_s, await _cpu_s(scripts) - redis_s, wall_s, sent)


async def _cpu_s(scripts: Scripts) -> float:
    info: Any = await scripts.redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def both(orders: int, seed: int) -> tuple[Run, Run]:
    """The real ledger and the naive one, each on a server of its own with its log synced every second."""
    now_ms = time.time_ns() // 1_000_000
    with EmbeddedRedis(appendonly=True) as server:
        real = await posted(server.url, orders, seed, now_ms)
    with EmbeddedRedis(appendonly=True) as server:
        return real, await naively_posted(server.url, orders, seed, now_ms)
