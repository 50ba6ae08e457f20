"""Bugs, stuck events, rebalances, zombies and rewound groups: F12 to F19, F39, F40."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from router.delivery import EXIT_BUG
from tests.faults.scene import BRAND, lead, leads
from tests.world import PARTITIONS
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, LEADS, RESERVATIONS
from topics.codec import partition_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def held(scene, worker, topic):
    """The partitions of a topic that a worker holds, as its metrics say; none while it has none yet."""
    with suppress(ConnectionError):
        return {
            int(labels[0])
            for name, *labels in scene.metrics(worker)
            if name == "consumer_lag_records" and labels[1] == scene.prefix + topic.name
        }
    return set()


def members_of(*partitions):
    """Members whose records go to these partitions."""
    return [name for n in range(200) if partition_of((name := f"m{n}").encode(), PARTITIONS) in partitions]


def shared(scene, workers, topic=LEADS):
    """Whether these workers hold all partitions of a topic between them, each at least one."""
    shares = [held(scene, worker, topic) for worker in workers]
    return (
        all(shares) and set.union(*shares) == set(range(PARTITIONS)) and sum(map(len, shares)) == PARTITIONS
    )


def holders(scene):
    return [worker for worker in scene.workers if held(scene, worker, LEADS)]


@pytest.mark.beside(lasts_s=15)
def test_f12_a_record_that_makes_the_code_raise(kind):
    """It alone is set aside as a bug, without a hole in the acknowledgements; too many end the process."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start(bug="poison")
        good = leads("a", 20, member_id="m")
        [*places] = scene.publish(LEADS, *good[:11], lead("poison-0", member_id="m"), *good[11:])
        scene.until(lambda: scene.offset(LEADS) == 21, "committed to the end")
        [letter] = scene.records[DEAD_LETTERS.name]
        headers = {name: value.decode() for name, value in letter.headers()}
        assert (headers["reason"], int(headers["offset"])) == ("bug", places[11][1])
        scene.settle(21)

        scene.publish(LEADS, *leads("poison-again", 8, member_id="m"), *leads("b", 3, member_id="m"))
        assert scene.worker.wait(20) == EXIT_BUG
        assert scene.offset(LEADS) == 21
        scene.worker.start()
        scene.judge(32)


@pytest.mark.beside(lasts_s=20)
def test_f13_an_event_never_finishes(kind):
    """The other worker's partitions and the other topics go on; the head stays unacknowledged and shows."""
    with kind.redis() as redis, kind.scene(redis, workers=2) as scene:
        first, second = scene.workers
        first.start(hang="stuck")
        second.start()
        scene.until(lambda: shared(scene, scene.workers), "shared")
        mine, others = (members_of(*held(scene, worker, LEADS)) for worker in scene.workers)
        [place] = scene.publish(LEADS, lead("stuck", member_id=mine[0]))
        scene.publish(LEADS, *(lead(f"a-{name}", member_id=name) for name in others))
        scene.answer(BRAND, *(f"a-{name}" for name in others))
        scene.until(lambda: head_s(scene, first, place[0]) > 3, "the head gets older")
        scene.settle()  # assignments are projected by both
        assert ("lead", "stuck") not in scene.answers(BRAND)
        assert scene.committed().get((scene.prefix + LEADS.name, place[0]), 0) <= place[1]
        first.kill()
        first.start()
        scene.judge(1 + len(others))


def head_s(scene, worker, partition):
    found = scene.metrics(worker)
    return found.get(("head_of_line_seconds", str(partition), scene.prefix + LEADS.name), 0)


@pytest.mark.beside(lasts_s=45)
def test_f14_workers_join_and_leave_in_the_middle_of_batches(kind):
    """Every rebalance meets a batch in work and full buffers; no loss, and what comes twice is the same."""
    with kind.redis() as redis, kind.scene(redis, workers=3) as scene:
        first, second, third = scene.workers
        small = {"broker_session_timeout": 3.0, "broker_heartbeat_interval": 0.5, "stream_buffer_maxsize": 1}
        slow = {"slow_s": 1.5, "settings": small}
        for worker in scene.workers:
            worker.environment["LEAD_ROUTER_BATCH_MAX"] = "64"
        scene.publish(LEADS, *leads("backlog", 8_000))
        first.start(**slow)
        scene.until(lambda: scene.audit.answered > 0, "in the middle")
        second.launch(**slow)
        scene.until(lambda: shared(scene, (first, second)), "shared by two")
        third.start(**slow)  # two partitions each is what two of three get of four
        scene.until(
            lambda: shared(scene, [each for each in scene.workers if held(scene, each, LEADS)]), "again"
        )
        status, _ = first.terminate(15)
        scene.until(lambda: shared(scene, (second, third)), "shared by two")
        assert status == 0
        scene.worker = second
        assert scene.audit.answered < 8_000, "the rebalances came in the middle"
        scene.judge(8_000)
        assert scene.one_assignment_each()


@pytest.mark.beside(lasts_s=10)
def test_leads_and_reservations_of_a_member_meet_on_one_worker(kind):
    """Two agents' topics are assigned together: whoever holds a partition of one holds that of the other."""
    with kind.redis() as redis, kind.scene(redis, workers=2) as scene:
        for worker in scene.workers:
            worker.launch()
        for worker in scene.workers:
            worker.ready()
        scene.until(
            lambda: all(shared(scene, scene.workers, each) for each in (LEADS, RESERVATIONS)), "shared"
        )
        for worker in scene.workers:
            assert held(scene, worker, LEADS) == held(scene, worker, RESERVATIONS)
            assert len(held(scene, worker, LEADS)) == PARTITIONS // 2


@pytest.mark.beside(lasts_s=55)
def test_f15_a_zombie_wakes_up_30_s_after_it_lost_its_partitions(kind):
    """What it still publishes is arbitrated, what it commits is refused; it joins again by itself."""
    with kind.redis() as redis, kind.scene(redis, workers=2) as scene:
        zombie, other = scene.workers
        zombie.start(slow_s=0.3)
        other.start()
        scene.until(lambda: shared(scene, scene.workers), "shared")
        offsets = []
        with scene.stream(rate_per_s=50) as sent:
            scene.until(lambda: scene.audit.answered > 100, "routed")
            zombie.pause()  # with a batch in work
            scene.worker = other
            scene.until(lambda: shared(scene, [other]), "taken over")
            for _ in range(30 if kind.name == "real" else 8):
                scene.read_for(1)
                offsets.append(scene.committed())
            zombie.resume()
            for _ in range(20):
                scene.read_for(0.2)
                offsets.append(scene.committed())
            scene.until(lambda: shared(scene, scene.workers), "shared again")
        for before, after in pairwise(offsets):
            assert all(after[tp] >= offset for tp, offset in before.items()), "an offset went back"
        assert zombie.running
        scene.judge(len(sent))
        assert scene.one_assignment_each()


@pytest.mark.beside(lasts_s=15)
@pytest.mark.parametrize("share", [0, 0.5], ids=["f18-to-the-earliest", "f19-to-the-middle"])
def test_f18_f19_a_group_is_set_back(kind, share):
    """Every replay returns the stored decision; nothing has an effect a second time."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start()
        scene.publish(LEADS, *leads("a", 200))
        scene.settle(200)
        scene.until(lambda: scene.offset(LEADS) == 200, "committed")
        scene.worker.stop()
        first = {lead: records[0] for lead, records in scene.answers(BRAND).items()}
        inboxes, journeys = scene.inboxes(), scene.journeys()
        again = set_back(scene, LEADS, share)
        set_back(scene, ASSIGNMENTS, share)
        assert again >= 200 * (1 - share)
        scene.worker.start()
        scene.until(lambda: len(scene.records[ASSIGNMENTS.name]) == 200 + again, "answered again")
        scene.until(lambda: scene.offset(LEADS) == 200, "committed")
        assert scene.metrics()["claim_total", "replay"] == again
        assert ("claim_total", "ok") not in scene.metrics()
        assert {lead: records[-1] for lead, records in scene.answers(BRAND).items()} == first
        scene.judge(200)
        assert (scene.inboxes(), scene.journeys()) == (inboxes, journeys)


def set_back(scene, topic, share):
    """Commit an earlier offset for the group, as one of its members; how many records come again."""
    name, again, back = scene.prefix + topic.name, 0, []
    for (held_name, partition), offset in scene.committed().items():
        if held_name == name:
            back.append(TopicPartition(name, partition, int(offset * share)))
            again += offset - int(offset * share)
    quick = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}
    group = Consumer({**scene.client, **quick, "group.id": scene.prefix})
    group.subscribe([name])
    while not group.assignment():
        group.poll(0.1)
    group.commit(offsets=back, asynchronous=False)
    group.close()
    return again


@pytest.mark.beside(lasts_s=15)
def test_f39_commits_fail(kind):
    """Refused, or done but told otherwise, six times; then all is committed though nothing more came."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        notes = scene.worker.folder / "notes"
        scene.worker.start(commit={"seed": 39, "times": 6}, notes=str(notes))
        scene.publish(LEADS, *leads("a", 20))
        scene.settle(20)
        scene.until(lambda: scene.offset(LEADS) == scene.offset(ASSIGNMENTS) == 20, "committed to the end")
        scene.until(lambda: not scene.lag(), "no lag")
        assert len(notes.read_text().splitlines()) == 6
        scene.judge(20)
        assert {len(records) for records in scene.answers(BRAND).values()} == {1}


@pytest.mark.beside(lasts_s=15)
@pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.real)], indirect=True)
def test_f40_retention_truncates_an_input_that_nobody_has_read(kind):
    """Told with the place, counted by record, and what is left is routed."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start()
        scene.publish(LEADS, *leads("a", 20, member_id="m"))
        scene.until(lambda: scene.offset(LEADS) == 20, "committed")
        scene.worker.stop()
        places = scene.publish(LEADS, *leads("gone", 30, member_id="m"), *leads("kept", 10, member_id="m"))
        [name, partition] = scene.prefix + LEADS.name, places[0][0]
        admin = AdminClient(scene.client)
        for done in admin.delete_records([TopicPartition(name, partition, 50)]).values():
            done.result(10)
        scene.worker.start()
        scene.until(lambda: scene.offset(LEADS) == 60, "committed")
        lost = ("truncated_records_total", str(partition), name)
        scene.until(lambda: scene.metrics().get(lost) == 30, "counted")
        assert f"offset out of range: {name}[{partition}] was expected to go on at 20" in scene.worker.log
        kept = {name for _, name in scene.answers(BRAND)}
        assert kept == {f"{name}-{n}" for name, count in (("a", 20), ("kept", 10)) for n in range(count)}


@pytest.mark.beside(lasts_s=8)
def test_what_is_done_is_committed_by_the_timer_and_not_before(kind):
    """Within a second after the answer; a batch still in work is not."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start(slow_s=2.0)
        scene.publish(LEADS, *leads("a", 1))
        scene.read_for(1.5)
        assert scene.offset(LEADS) == 0
        scene.answer(BRAND, "a-0")
        scene.until(lambda: scene.offset(LEADS) == 1, "committed", within_s=2)


@pytest.mark.beside(lasts_s=12)
@pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.real)], indirect=True)
def test_a_worker_that_the_group_refuses_says_so_and_asks_again(kind):
    """aiokafka keeps such an answer for a caller whom Faust goes around: the worker stood silent for ever."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        too_short = {"broker_session_timeout": 0.9, "broker_heartbeat_interval": 0.2}
        scene.worker.launch(settings=too_short)
        refused = "the group refuses this worker, who asks again: InvalidSessionTimeoutError"
        scene.until(lambda: scene.worker.log.count(refused) >= 2, "refused twice")
        assert scene.metrics()["ready",] == 0
        assert scene.worker.running
