"""Redis loses what it was told while workers run: it is noticed, made whole from the log, and all goes on."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from router.demo.country import built_in_stores
from router.demo.roster import roster
from router.demo.worker_process import WorkerProcess
from router.errors import OutageError, StateLostError
from router.local import EmbeddedRedis
from router.recovery import Recovery
from router.reference import Reference
from router.state.arbiter import Arbiter
from router.state.guard import Guard
from router.state.redis import Scripts
from tests.parts import PATIENT_S, RealNode
from tests.world import World, told
from topics.catalog import GUIDES, PRESENCE
from topics.catalog import STORES as STORES_TOPIC
from topics.codec import encode, key_of
from topics.stores import Store

STORES = built_in_stores(1)
#: What a failover may bring, as often as it has lost a write.
EXCESS = {"double_assigned", "over_capacity"}


def now_ms():
    return time.time_ns() // 1_000_000


def excess(world):
    """How often a lead was given twice or a guide too much; anything else that is wrong is no excess."""
    report = world.report()
    assert {problem.partition(":")[0] for problem in report.problems} <= EXCESS, report.problems
    return report.double_assigned + report.over_capacity


@pytest.fixture
def running(parts, prefix):
    """A world with a roster and two workers; one on the embedded broker, where joining takes long."""
    with World(parts.kafka_url, parts.redis_url, prefix) as world, ExitStack() as stack:
        world.roster(roster(STORES, 1, at_ms=now_ms()))
        world.worker.start()
        world.workers = [world.worker]
        if parts.kind == "real":
            world.workers.append(stack.enter_context(WorkerProcess(world.environment)))
        yield world


def same_columns(world):
    """Whether all workers know the same."""
    known = [world.metrics(worker) for worker in world.workers]
    return len({(metrics["columns_checksum",], metrics["guides",]) for metrics in known}) == 1


def regressions(world):
    """How often the workers found that Redis had lost what it was told."""
    return sum(world.metrics(worker)["redis_regressions_total",] for worker in world.workers)


def end(world, found):
    """Stop the workers; Redis must be as the log says, whatever excess the audit has found."""
    for worker in world.workers:
        worker.stop()
    assert told(world, "verify", int(found > 0)).endswith("redis: as the log says\n")


def changed(turn):
    """Half of the roster with other capacities, somebody offline, somebody inactive."""
    for topic, event in roster(STORES[turn % 2 :: 2], turn, at_ms=now_ms()):
        if topic is GUIDES:
            active = not event.guide_id.endswith(str(turn))
            yield topic, replace(event, version=2 + turn, capacity=5 + turn, active=active)
        elif topic is PRESENCE:
            yield topic, event


@pytest.mark.slow
def test_two_workers_hold_the_same_columns_after_churn_and_after_a_rebalance(running):
    """Leads come to both while guides change and go offline; one is killed, and comes back."""
    world, sent = running, 0
    for turn in range(3):
        with world.load(leads=300, rate_per_s=600) as sending:
            world.roster(changed(turn))
            sent += world.sent(sending)
        world.settle(sent)
        loads = sum(world.redis.zcard(key) for key in world.redis.scan_iter("lr:*:open", count=1000))
        assert loads > 0
        world.until(lambda: same_columns(world), "the same columns")
        if turn == 1:
            world.workers[-1].kill()
            world.workers[-1].start()
    assert regressions(world) == 0
    world.check()


@pytest.mark.slow
def test_f25_a_redis_wiped_under_load_is_made_whole_from_the_log(running):
    """Claims stop within a refresh, and go on when every key is as the log says."""
    world = running
    with world.load(leads=1_500, rate_per_s=300) as sending:
        world.until(lambda: world.audit.answered > 400, "in the middle")
        world.redis.flushall()
        sent = world.sent(sending)
    world.settle(sent)
    assert regressions(world) >= 1
    world.until(lambda: same_columns(world), "the same columns")
    found = excess(world)
    assert found <= 5  # what was on its way at that moment
    end(world, found)


@pytest.mark.slow
@pytest.mark.real
def test_f24_a_replica_takes_over_without_the_last_writes(real_kafka, prefix, tmp_path):
    """It is noticed, claims stop, the log is applied again; the excess is at most what was lost."""
    if real_kafka is None:
        pytest.skip("no real Kafka")
    with ExitStack() as stack:
        master, replica = (stack.enter_context(RealNode()) for _ in range(2))
        replica.cli("REPLICAOF", "127.0.0.1", master.port)
        address = tmp_path / "redis.sock"
        address.symlink_to(master.socket)
        world = stack.enter_context(World(real_kafka.url, f"unix://{address}", prefix))
        world.roster(roster(STORES, 1, at_ms=now_ms()))
        world.worker.start()
        world.workers = [world.worker, stack.enter_context(WorkerProcess(world.environment))]
        with world.load(leads=2_400, rate_per_s=400) as sending:
            world.until(lambda: world.audit.answered > 400, "routed")
            world.until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"), "replicated")
            replica.cli("REPLICAOF", "NO", "ONE")  # from here on the master's writes are lost
            before = world.audit.answered
            world.until(lambda: world.audit.answered > before + 300, "written in vain")
            master.kill()
            lost = world.audit.answered - before + 512
            address.unlink()
            address.symlink_to(replica.socket)
            sent = world.sent(sending)
        world.settle(sent)
        assert regressions(world) >= 1
        world.until(lambda: same_columns(world), "the same columns")
        found = excess(world)
        assert found <= lost
        end(world, found)


async def test_every_cell_is_whole_after_a_recovery_also_where_a_store_opens_meanwhile():
    """Its cell would not be marked and taken for whole: the first lead there would begin it all again."""

    reference = Reference(lambda *_: None)

    async def read(*_):
        open_store(reference, "new")
        for nothing in ():
            yield nothing

    open_store(reference, "old")
    with EmbeddedRedis() as server:
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        arbiter = Arbiter(scripts)
        try:
            await Recovery(arbiter, Guard(), reference, read, "log", lambda: None).run()
            assert "b/old" in reference.cells
            assert await arbiter.unmarked(reference.cells) == []
        finally:
            await scripts.close()


def open_store(reference, market):
    where = {"lat": 31.0, "lon": 121.0, "kind": "full_price", "active": True, "market": market}
    store = Store(store_id=market, brand="b", version=1, **where)
    reference.apply(STORES_TOPIC, key_of(STORES_TOPIC, store), encode(store))


async def test_f24_nothing_is_sent_to_a_server_that_nobody_vouches_for():
    """Not even the first command on a new connection; nor after a wipe, until somebody vouches again."""
    guard = Guard()
    with EmbeddedRedis() as server:
        free, guarded = Scripts(server.url), Scripts(server.url, guard=guard)
        arbiter = Arbiter(guarded)
        try:
            with pytest.raises(StateLostError):
                await arbiter.begin(["b/m"], "token")
            guard.trust({"another"}, 0)
            with pytest.raises(OutageError, match="the log comes first"):
                await arbiter.begin(["b/m"], "token")
            assert not guard.whole
            assert await free.redis.keys() == []
            guard.trust(await free.identities(), 0)
            await arbiter.mark(["b/m"], await arbiter.begin(["b/m"], "token"))
            await free.redis.flushall()
            with pytest.raises(StateLostError):
                await arbiter.changes(["b/m"], [""])
            assert not guard.whole
            guard.trust(await free.identities(), 0)
            await arbiter.begin(["b/m"], "token")
            server.kill()
            with pytest.raises(OutageError):
                await arbiter.begin(["b/m"], "token")
            assert guard.whole  # away is not lost ...
            server.start()
            with pytest.raises(OutageError):
                await arbiter.begin(["b/m"], "token")
            assert not guard.whole  # ... but back is another one
        finally:
            await free.close()
            await guarded.close()
