"""F33 to F38: whatever is wrong with Kafka, nothing is acknowledged that the broker does not have."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from tests.faults.scene import BRAND, leads
from tests.parts import SecondBroker
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, LEADS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
only_real = pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.real)], indirect=True)


def configure(scene, topic, **entries):
    """Set (or with None unset) configurations of a topic."""
    admin = AdminClient(scene.client)
    changes = [
        ConfigEntry(
            name.replace("_", "."),
            value,
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in entries.items()
    ]
    resource = ConfigResource("topic", scene.prefix + topic.name, incremental_configs=changes)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(10)


@only_real
@pytest.mark.beside(lasts_s=60)
def test_f33_the_broker_is_killed_and_stopped_five_times_under_load(kind):
    with kind.own_kafka() as kafka, kind.redis() as redis, kind.scene(redis, kafka) as scene:
        scene.worker.start()
        with scene.stream(rate_per_s=60) as sent:
            for end in (kafka.kill, kafka.stop, kafka.kill, kafka.stop, kafka.kill):
                asked = len(sent)
                scene.until(lambda asked=asked: scene.audit.answered > asked, "routed again", within_s=60)
                end()
                kafka.start()
        assert scene.worker.running
        scene.judge(len(sent))
        assert scene.one_assignment_each()


@only_real
@pytest.mark.beside(lasts_s=40)
def test_f34_too_few_replicas_are_in_sync(kind):
    """One of two brokers dies: publishing waits, nothing is acknowledged; when it is back all goes on."""
    with (
        kind.own_kafka(copies=2) as kafka,
        SecondBroker(kafka) as second,
        kind.redis() as redis,
        kind.scene(redis, kafka) as scene,
    ):
        configure(scene, ASSIGNMENTS, min_insync_replicas="2")
        scene.worker.start()
        with scene.stream(rate_per_s=60) as sent:
            scene.until(lambda: scene.audit.answered > 60 and scene.committed(), "routed")
            second.kill()
            scene.read_for(4)  # until the controller has missed it
            answered = scene.audit.answered
            scene.read_for(8)
            assert scene.audit.answered == answered
            assert scene.offset(LEADS) <= answered
            assert scene.worker.running
            second.start()
            scene.until(lambda: scene.audit.answered > len(sent) - 60, "caught up", within_s=60)
        scene.judge(len(sent))
        assert scene.one_assignment_each()


@pytest.mark.beside(lasts_s=20)
def test_f34_the_broker_says_not_enough_replicas_now_and_then(kind):
    """The same by an error that is planted into every twelfth batch of records."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start(produce={"seed": 34, "rate": 0.08, "fate": "refused"})
        with scene.stream(rate_per_s=100) as sent:
            scene.read_for(4)
        scene.judge(len(sent))
        assert scene.worker.log.count("NotEnoughReplicas") + scene.worker.log.count("planted") > 5
        assert scene.one_assignment_each()


@pytest.mark.beside(lasts_s=80)
def test_f35_all_brokers_are_down_for_60_s_under_load(kind):
    """No claim without its record afterwards: ``verify`` compares every key of Redis with the log.

    The embedded broker cannot stop and come back; it hangs, for a third of the time.
    """
    with kind.own_kafka() as kafka, kind.redis() as redis, kind.scene(redis, kafka) as scene:
        scene.worker.start()
        with scene.stream(rate_per_s=60) as sent:
            scene.until(lambda: scene.audit.answered > 60 and scene.committed(), "routed")
            down, up = down_and_up(kind, kafka)
            down()
            answered = scene.audit.answered
            scene.read_for(60 if kind.name == "real" else 20)
            assert scene.audit.answered <= answered + 120
            assert scene.worker.running
            up()
            scene.until(lambda: scene.audit.answered > len(sent) - 60, "caught up", within_s=60)
        scene.judge(len(sent))
        assert scene.one_assignment_each()


def down_and_up(kind, kafka):
    """The embedded broker keeps nothing over a stop, so it hangs."""
    return (kafka.pause, kafka.resume) if kind.name == "embedded" else (kafka.kill, kafka.start)


@pytest.mark.beside(lasts_s=45)
def test_f36_redis_and_kafka_are_down_and_come_back_in_either_order(kind):
    with (
        kind.own_kafka() as kafka,
        kind.redis(appendonly=True) as redis,
        kind.scene(redis, kafka) as scene,
    ):
        scene.worker.start()
        down, up = down_and_up(kind, kafka)
        with scene.stream(rate_per_s=60) as sent:
            for first, second in ((redis.start, up), (up, redis.start)):
                asked = len(sent)
                scene.until(lambda asked=asked: scene.audit.answered > asked, "routed", within_s=60)
                redis.stop()
                down()
                scene.read_for(3)
                first()
                scene.read_for(3)
                second()
            asked = len(sent)
            scene.until(lambda: scene.audit.answered > asked, "routed again", within_s=60)
        assert scene.worker.running
        scene.judge(len(sent))
        assert scene.one_assignment_each()


@pytest.mark.beside(lasts_s=20)
def test_f37_the_broker_has_the_record_and_the_worker_does_not_hear_of_it(kind):
    """It comes a second time with the same content, and its guide sees one card."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start(produce={"seed": 37, "rate": 0.08, "fate": "executed"})
        with scene.stream(rate_per_s=100) as sent:
            scene.read_for(4)
        scene.judge(len(sent))
        assert scene.one_assignment_each()
        assert sum(len(records) > 1 for records in scene.answers(BRAND).values()) > 20
        cards = [card for key in scene.redis.scan_iter("lr:*:feed:*") for card in scene.redis.xrange(key)]
        assert len(cards) == len(scene.live())


@only_real
@pytest.mark.beside(lasts_s=12)
def test_f38_the_broker_refuses_a_result_for_good(kind):
    """Too large for its topic: the lead goes to the dead letters with its headers, and the head advances."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start()
        [small] = leads("a", 1)
        scene.publish(LEADS, small)
        scene.settle(1)
        [record] = scene.records[ASSIGNMENTS.name]
        # room for such a record in a batch of its own, and not for one whose ids are longer
        configure(scene, ASSIGNMENTS, max_message_bytes=str(len(record.value()) + 120))
        places = []

        def refused():
            """Another, once the last is routed: a broker applies a configuration some time after its yes."""
            number = len(places)
            if scene.audit.answered > number and not scene.records[DEAD_LETTERS.name]:
                places.extend(scene.publish(LEADS, *leads(f"{number:l>60}", 1, member_id=f"{number:m>64}")))
            return scene.records[DEAD_LETTERS.name]

        scene.until(refused, "set aside")
        scene.publish(LEADS, *leads("b", 1))
        scene.until(lambda: scene.offset(LEADS) == 2 + len(places), "committed to the end")
        configure(scene, ASSIGNMENTS, max_message_bytes=None)
        [letter] = scene.records[DEAD_LETTERS.name]
        headers = {name: value.decode() for name, value in letter.headers()}
        assert (headers["reason"], headers["topic"]) == ("bug", "leads")
        assert (int(headers["partition"]), int(headers["offset"])) == places[-1]
        assert scene.worker.running
        scene.settle(2 + len(places))
        scene.check()
