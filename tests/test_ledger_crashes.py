"""A death between any two steps, a Redis that forgets, a log tampered with: one posting, or its name."""

from __future__ import annotations

import asyncio
from hashlib import sha1
from itertools import count

import orjson
import pytest

from router.errors import EffectError, OutageError, StateLostError
from router.ledger.recovery import BookRecovery
from router.local import EmbeddedRedis
from router.rules.money.entries import Change, sell
from router.rules.money.postings import Page, identity, numbered
from router.rules.money.standing import UNKNOWN
from router.state import keys
from router.state.money import Money, Write
from router.state.redis import Scripts
from tests.ledger_world import DAY_MS, NEXT, OF_1000, PERIOD, book_of, line, refund, sale
from topics.catalog import COMMISSIONS, LEDGER_COMMANDS, ORDERS, POLICIES


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


class DiedError(Exception):
    """The process was killed here."""


class Mortal:
    """Stands for a part, and dies before or after the n-th call of a step."""

    def __init__(self, part, step, *, after, at=1):
        self._part, self._step, self._after, self._left = part, step, after, at

    def __getattr__(self, name):
        whole = getattr(self._part, name)
        if name != self._step:
            return whole

        async def deadly(*args):
            self._left -= 1
            if self._left == 0 and not self._after:
                raise DiedError
            result = await whole(*args)
            if self._left == 0:
                raise DiedError
            return result

        return deadly


def mortal(world, step, *, after, at=1):
    """A ledger of another process, which dies there."""
    if step == "publish":
        return world.another_ledger(publisher=Mortal(world, step, after=after, at=at))
    return world.another_ledger(money=Mortal(world.money, step, after=after, at=at))


STEPS = [(step, after) for step in ("post", "publish", "published") for after in (False, True)]


@pytest.mark.parametrize(("step", "after"), STEPS)
def test_f08_whoever_dies_between_post_publish_and_acknowledge_leaves_one_posting(server, step, after):
    async def story(world):
        await world.put(refund("early", 100))
        for event in (sale(), refund("r", 100), sale("p", 10)):
            world._append(ORDERS.name, b"m", world.encoded(event))
        with pytest.raises(DiedError):
            await mortal(world, step, after=after).orders(world.log[ORDERS.name][1:])
        await world.settle()  # nothing was acknowledged: another worker gets it all again
        assert world.balances("pending") == {"g1": 162, "g2": 405, "s": 162, "boss": 81}
        assert [each["kind"] for each in world.postings()].count("base") == 2
        assert [each["book_seq"] for each in world.postings()] == list(range(1, 9))
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize(("step", "after"), STEPS)
def test_f08_f65_a_refund_that_waited_for_a_smaller_sale_is_told_whoever_dies(server, step, after):
    """Its own record was acknowledged when it was parked, and comes no more."""

    async def story(world):
        await world.put(refund("early", 1001))
        world._append(ORDERS.name, b"m", world.encoded(sale()))
        with pytest.raises(DiedError):
            await mortal(world, step, after=after).orders(world.log[ORDERS.name][1:])
        await world.settle()
        assert set(world.dead_letters()) == {"refund_over_sale"}
        assert world.balances("pending") == OF_1000
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize(("step", "after"), STEPS[:2])
def test_f08_f65_a_refund_whose_sale_never_came_is_told_whoever_dies(server, step, after):
    async def story(world):
        await world.put(refund("early", 1001))
        world.arbiter.now += 16 * DAY_MS
        work, dies = world.work[LEDGER_COMMANDS.name], [True]

        async def deadly(records):
            ledger = mortal(world, step, after=after) if dies.pop() else world.ledger
            await world._money(records, ledger.commands)

        world.work[LEDGER_COMMANDS.name] = deadly
        with pytest.raises(DiedError):
            await world.tick()
        world.work[LEDGER_COMMANDS.name] = work
        await world.again(LEDGER_COMMANDS)
        assert set(world.dead_letters()) == {"refund_without_sale"}

    book_of(server, story)


@pytest.mark.parametrize(("step", "after"), STEPS)
@pytest.mark.parametrize("at", [1, 2])
def test_f08_a_close_that_was_cut_short_is_finished_by_the_next(server, step, after, at):
    async def story(world):
        await world.put(sale(), sale("p", 10))
        await world.days(8)
        world._append(LEDGER_COMMANDS.name, b"b", world.close_of(PERIOD))
        with pytest.raises(DiedError):
            await mortal(world, step, after=after, at=at + (step != "post")).commands(
                world.log[LEDGER_COMMANDS.name][-1:]
            )
        await world.settle()
        assert len(world.postings("settle")) == 2
        assert len(world.postings("close")) == 1
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_what_the_broker_does_not_take_is_published_when_it_is_back(server):
    async def story(world):
        world.down = True
        with pytest.raises(OutageError):
            await world.put(sale())
        world.down = False
        await world.again(ORDERS)
        assert world.balances("pending") == OF_1000
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m5_the_script_gives_a_repeat_the_bytes_that_it_keeps_and_refuses_other_content(server):
    async def story(world):
        [inputs] = await world.ledger.carrier.gathering.gather([sale()])
        change = sell(Page("b", "", 8), UNKNOWN, inputs)
        write = Write("b", change, b"", 8)
        [(result, values)] = await world.money.post([write])
        assert result == "ok"
        assert values == [numbered(draft.body, seq) for seq, draft in enumerate(change.postings, 1)]
        held = (await world.money.look([("b", "o")]))[0].text
        again = Write("b", Change("o", change.standing, change.postings), held, 8)
        assert await world.money.post([again]) == [("repeat", values)]
        other = sell(Page("b", "", 8), UNKNOWN, inputs | {"order": inputs["order"] | {"amount_fen": 1}})
        assert await world.money.post([Write("b", other, held, 8)]) == [("conflict", [])]
        assert await world.money.post([write]) == [("stale", [])]

    book_of(server, story)


def test_two_workers_with_the_same_orders_post_them_once(server):
    async def story(world):
        for number in range(20):
            world._append(ORDERS.name, b"m", world.encoded(sale(f"o{number}")))
            world._append(ORDERS.name, b"m", world.encoded(refund("r", 500, f"o{number}")))
        workers = [world.another_ledger() for _ in range(3)]
        await asyncio.gather(*(each.orders(world.log[ORDERS.name]) for each in workers))
        assert sum(world.balances("pending").values()) == 10_000
        world._read[ORDERS.name] = len(world.log[ORDERS.name])
        assert await world.differences() == ({}, [])

    book_of(server, story)


class Interrupted:
    """Stands for the money of a worker in whose way somebody comes between its decision and its posting."""

    def __init__(self, money, meanwhile):
        self._money, self._meanwhile = money, [meanwhile]

    def __getattr__(self, name):
        return getattr(self._money, name)

    async def post(self, writes):
        while self._meanwhile:
            await self._meanwhile.pop()()
        return await self._money.post(writes)


def interrupted(world, meanwhile):
    return world.another_ledger(money=Interrupted(world.money, meanwhile))


def test_two_refunds_of_an_order_that_meet_are_both_taken_in(server):
    async def story(world):
        await world.put(sale())
        first = interrupted(world, lambda: world.put(refund("q", 300)))
        world._append(ORDERS.name, b"m", world.encoded(refund("r", 300)))
        world._read[ORDERS.name] += 1
        await first.orders(world.log[ORDERS.name][1:2])
        assert sum(world.balances("pending").values()) == 400
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m11_what_was_decided_before_a_close_is_decided_anew_after_it(server):
    async def story(world):
        ledger = interrupted(world, lambda: world.command("close", period=PERIOD))
        world._append(ORDERS.name, b"m", world.encoded(sale()))
        world._read[ORDERS.name] += 1
        await ledger.orders(world.log[ORDERS.name])
        assert {each["period"] for each in world.postings()} == {NEXT}
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_what_leaves_in_the_middle_of_a_close_keeps_no_other_order_from_being_settled(server, monkeypatch):
    monkeypatch.setattr("router.ledger.commands.CHUNK", 10)

    async def story(world):
        await world.put(*(sale(f"o{number:03}", 10) for number in range(150)))
        await world.days(8)
        gone = [refund("r", 10, f"o{number:03}") for number in range(10)]
        ledger = interrupted(world, lambda: world.put(*gone))
        world._append(LEDGER_COMMANDS.name, b"b", world.close_of(PERIOD))
        world._read[LEDGER_COMMANDS.name] += 1
        await ledger.commands(world.log[LEDGER_COMMANDS.name][-1:])
        assert world.balances("earned") == {}
        assert sum(world.balances("settled").values()) == 1400
        assert await world.differences() == ({}, [])

    book_of(server, story)


class Busy:
    """Stands for the money of a worker who closes while another sells, whenever a chain is read."""

    def __init__(self, world):
        self._world, self._other, self.reads = world, world.another_ledger(), 0

    def __getattr__(self, name):
        return getattr(self._world.money, name)

    async def chain(self, brand, period):
        held = await self._world.money.chain(brand, period)
        self.reads += 1
        assert self.reads < 10
        self._world._append(ORDERS.name, b"m", self._world.encoded(sale(f"busy{self.reads}")))
        self._world._read[ORDERS.name] += 1
        await self._other.orders(self._world.log[ORDERS.name][-1:])
        return held


def closing(world, money, period=PERIOD):
    """A worker with this money closes a period."""
    ledger = world.another_ledger(money=money)
    world._append(LEDGER_COMMANDS.name, b"b", world.close_of(period))
    return ledger.commands(world.log[LEDGER_COMMANDS.name][-1:])


def test_a_running_month_in_which_all_the_time_something_is_sold_is_closed(server):
    async def story(world):
        await world.put(sale())
        busy = Busy(world)
        await closing(world, busy)
        world._read[LEDGER_COMMANDS.name] += 1
        assert busy.reads == 1
        [seal] = world.postings("close")
        assert seal["inputs"]["count"] == 2
        assert {each["period"] for each in world.postings("base") if each["order_id"] != "o"} == {NEXT}
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize("sales", [[], [sale()]])
def test_who_dies_between_the_last_posting_of_a_period_and_its_seal_has_it_sealed_by_the_next(server, sales):
    async def story(world):
        await world.put(*sales)
        with pytest.raises(DiedError):
            await closing(world, Mortal(world.money, "chain", after=False, at=1))
        await world.put(sale("late"))
        assert [each["inputs"]["period"] for each in world.postings("close")] == [PERIOD]
        assert world.postings("close")[0]["inputs"]["count"] == 2 * len(sales)
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_two_workers_who_close_the_same_period_seal_it_once(server):
    async def story(world):
        await world.put(sale())

        class Between:
            def __getattr__(self, name):
                return getattr(world.money, name)

            async def shut(self, brand, period):
                if not world.postings("close"):
                    await closing(world, world.money)
                await world.money.shut(brand, period)

        await closing(world, Between())
        world._read[LEDGER_COMMANDS.name] = len(world.log[LEDGER_COMMANDS.name])
        assert len(world.postings("close")) == 1
        assert await world.differences() == ({}, [])

    book_of(server, story)


MUTANTS = {
    "as it was read": (
        "~= change.read then return 'stale' end",
        "~= change.read then end",
        test_two_refunds_of_an_order_that_meet_are_both_taken_in,
    ),
    "a posting id posts once": (
        "if held then",
        "if false then",
        test_m5_the_script_gives_a_repeat_the_bytes_that_it_keeps_and_refuses_other_content,
    ),
    "same content": (
        "if not same then return 'conflict' end",
        "",
        test_m5_the_script_gives_a_repeat_the_bytes_that_it_keeps_and_refuses_other_content,
    ),
    "closed is closed": (
        "post.period < open then",
        "false then",
        test_m11_what_was_decided_before_a_close_is_decided_anew_after_it,
    ),
    "bytes first": (
        "redis.call('ZADD', unpublished, seq, post.id)",
        "",
        lambda server: test_f08_a_close_that_was_cut_short_is_finished_by_the_next(
            server, step="post", after=True, at=1
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_protection_of_the_script_its_test_turns_red(server, name, monkeypatch):
    before, after, test = MUTANTS[name]
    whole = Scripts.__init__

    def mutated(self, *args, **more):
        whole(self, *args, **more)
        assert self._text["post"].count(before.encode()) == 1
        self._text["post"] = self._text["post"].replace(before.encode(), after.encode())
        self._sha["post"] = sha1(self._text["post"], usedforsecurity=False).hexdigest()

    monkeypatch.setattr(Scripts, "__init__", mutated)
    with pytest.raises((AssertionError, EffectError)):
        test(server)


# -- a Redis that forgets


async def busy(world):
    """A book with a bit of everything."""
    await world.put(sale(), sale("p", 777), refund("r", 100), refund("early", 5, "not yet"))
    await world.days(8)
    adjusted = (line("commission", "group", -7, "group"), line("earned", "g3", 7))
    await world.command("adjust", lines=adjusted, reason="forgotten")
    await world.command("dispute", order_id="p")
    await world.command("close", period=PERIOD)
    await world.command("pay", period=PERIOD)
    now = world.arbiter.now
    await world.put(sale("q", 10, occurred_at_ms=now), refund("s", 400, occurred_at_ms=now))


async def recovered(world, *, lost):
    """What a worker does when Redis has lost its state."""
    money = Money(world.scripts, recovers=True)
    tokens = await money.begin(["b"], "token")
    recovery = BookRecovery(
        world.another_ledger(money=money).carrier, {"b"} if lost else set(), world.arbiter.now - 600_000
    )
    await recovery.postings(world.log[COMMISSIONS.name])
    await recovery.disputes(world.log[LEDGER_COMMANDS.name])
    await recovery.refunds(world.log[ORDERS.name])
    await money.mark(["b"], tokens)


async def contents(world):
    """All keys of the book, but for those that are forgotten in time."""
    out = {}
    for key in sorted(await world.redis.keys("lr:{b/money}:*")):
        kind = await world.redis.type(key)
        if kind == b"hash":
            held = await world.redis.hgetall(key)
            # of 0 fen it does not matter whether they are there; the mark is Redis' own
            kept = {
                name: value for name, value in held.items() if value != b"0" and name not in {b"|", b"|t"}
            }
            out[key] = {name: value for name, value in kept.items() if not value.endswith(b" 0")}
        elif kind == b"zset":
            out[key] = await world.redis.zrange(key, 0, -1, withscores=True)
    return {key: value for key, value in out.items() if value}


def test_a_book_that_was_lost_is_entered_again_from_the_log_and_goes_on(server):
    async def story(world):
        await busy(world)
        before = await contents(world)
        await world.redis.flushall()
        with pytest.raises(StateLostError):
            await world.ledger.orders(world.log[ORDERS.name][:1])
        for _ in range(2):  # by two workers, one after the other
            await recovered(world, lost=True)
            assert await contents(world) == before
        world._marked.clear()
        await world.put(refund("late", 10, "p", occurred_at_ms=world.arbiter.now))
        numbers = [each["book_seq"] for each in world.postings()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_a_failover_that_lost_the_newest_postings_gets_them_from_the_log(server):
    async def story(world):
        await world.put(sale(), sale("p", 50))
        await world.days(20)
        money_keys = await world.redis.keys("lr:{b/money}:*")
        dump = {key: await world.redis.dump(key) for key in money_keys}
        now = world.arbiter.now
        await world.put(sale("q", 10, occurred_at_ms=now), refund("s", 400, occurred_at_ms=now))
        before = await contents(world)
        await world.redis.delete(*await world.redis.keys("lr:{b/money}:*"))
        for key, value in dump.items():
            await world.redis.restore(key, 0, value)
        await recovered(world, lost=False)
        assert await contents(world) == before
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_a_base_whose_overlay_was_lost_gets_it_when_the_order_comes_again(server):
    async def story(world):
        await world.put(sale())
        del world.log[COMMISSIONS.name][1:]
        await world.redis.delete(*await world.redis.keys("lr:{b/money}:*"))
        await recovered(world, lost=True)
        await world.again(ORDERS)
        assert world.balances("pending") == OF_1000

    book_of(server, story)


def test_a_reversal_whose_split_was_lost_gets_it_when_the_refund_comes_again(server):
    async def story(world):
        await world.put(sale(), refund("q", 100), refund("r", 400))
        whole = world.balances("pending")
        published, _ = world.postings(), world.log[COMMISSIONS.name].pop()
        await world.redis.delete(*await world.redis.keys("lr:{b/money}:*"))
        await recovered(world, lost=True)
        assert [fault.posting_id for fault in world.audit().faults] == [identity("base", "b", "o")]
        for _ in range(2):
            await world.again(ORDERS)
            assert world.balances("pending") == whole
        assert world.postings() == published
        assert world.dead_letters() == []
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_an_order_whose_last_split_is_not_in_the_book_is_named(server):
    async def story(world):
        await world.put(sale())
        await world.put(sale("p"), refund("r", 400, "p"))
        log = world.log[COMMISSIONS.name]
        for order_id, left in (("o", [*log[:1], *log[2:]]), ("p", log[:-1])):
            world.log[COMMISSIONS.name] = left
            wanted = (identity("base", "b", order_id), f"order {order_id} is not whole")
            assert wanted in {(each.posting_id, each.what.partition(":")[0]) for each in world.audit().faults}
        world.log[COMMISSIONS.name] = log
        assert world.audit().faults == []

    book_of(server, story)


def test_rebuild_makes_an_empty_or_a_wrong_redis_what_the_log_says(server):
    async def story(world):
        await busy(world)
        before = await contents(world)
        await world.redis.hset(keys.order("b", "o"), "s", "{}")
        await world.redis.hincrby(keys.earnings("b", "party", "g2"), "pending|server", 1)
        wrong, _ = await world.differences(mend=True)
        assert set(wrong) == {keys.order("b", "o"), keys.earnings("b", "party", "g2")}
        assert await contents(world) == before
        await world.redis.flushall()
        await world.differences(mend=True)
        assert await contents(world) == before

    book_of(server, story)


def test_the_metrics_tell_an_imbalance_and_a_posting_that_is_gone(server):
    async def story(world):
        await busy(world)
        assert await world.money.imbalance_fen(["b"]) == 0
        assert await world.money.chains_ok(["b"])
        await world.redis.hincrby(keys.earnings("b", "book", ""), "paid", 3)
        assert await world.money.imbalance_fen(["b"]) == 3
        [chain] = await world.redis.keys("lr:{b/money}:chain:*")
        await world.redis.zremrangebyrank(chain, 0, 0)
        assert not await world.money.chains_ok(["b"])

    book_of(server, story)


# -- a log that was tampered with


def test_m10_whichever_byte_of_a_posting_is_flipped_its_posting_is_named(server):
    async def story(world):
        await busy(world)
        assert world.audit().faults == []
        log = world.log[COMMISSIONS.name]
        for record, step in zip(list(log), count(3), strict=False):
            name = orjson.loads(record.value)["posting_id"]
            for place in range(step % 31, len(record.value), 31):
                value = bytearray(record.value)
                value[place] ^= 1
                log[record.offset] = record._replace(value=bytes(value))
                named = {fault.posting_id for fault in world.audit().faults}
                # a flip in the id itself leaves a posting whose id is wrong
                new = bytes(value).partition(b'"posting_id":"')[2].partition(b'"')[0].decode(errors="replace")
                places = {f"@{record.offset}"}
                assert named & ({name, new} | places), (place, bytes(value[max(0, place - 20) : place + 20]))
            log[record.offset] = record

    book_of(server, story)


def test_m10_m11_a_posting_that_is_taken_out_or_swapped_breaks_the_seal(server):
    async def story(world):
        await busy(world)
        log = world.log[COMMISSIONS.name]
        [seal] = [each["posting_id"] for each in world.postings("close")]
        for gone in range(3):
            kept = log[gone]
            log[gone] = log[-1]  # stands twice now, which is no fault
            assert seal in {fault.posting_id for fault in world.audit().faults}
            log[gone] = kept
        one, two = log[0], log[2]
        seqs = [b'{"book_seq":1,', b'{"book_seq":3,']
        log[0] = one._replace(value=one.value.replace(*seqs))
        log[2] = two._replace(value=two.value.replace(*reversed(seqs)))
        assert seal in {fault.posting_id for fault in world.audit().faults}

    book_of(server, story)


def test_a_hostile_book_is_read_to_its_end(server):
    async def story(world):
        await world.put(sale())
        log = world.log[COMMISSIONS.name]
        good = orjson.loads(log[0].value)
        hostile = [
            good | {"inputs": inputs}
            for inputs in (
                {},
                {"order": None},
                {"order": {"commission_fen": "many"}},
                {"order": good["inputs"]["order"], "terms": []},
                {"parties": []},
                {"parties": {"g1": []}},
                {"parties": {"g1": {"store_id": [], "region": {}}}},
                {"held": 1, "refunds": [[]], "refunded_fen": [1]},
            )
        ]
        hostile += [
            dict(each, kind=kind) for each in hostile for kind in ("reversal", "vest", "adjust", "close")
        ]
        for number, posting in enumerate(hostile):
            named = posting | {"posting_id": f"x{number}", "book_seq": number + 3}
            world._append(COMMISSIONS.name, b"b", orjson.dumps(named))
        named = {fault.posting_id for fault in world.audit().faults}
        assert {f"x{number}" for number in range(len(hostile))} <= named
        assert POLICIES.name in world.log

    book_of(server, story)
