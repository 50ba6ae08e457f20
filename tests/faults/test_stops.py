"""F09 to F11: a worker that is asked to stop does so soon, and acknowledges nothing unfinished."""

from __future__ import annotations

import pytest

from tests.faults.scene import leads
from topics.catalog import LEADS

pytestmark = [pytest.mark.slow, pytest.mark.beside(lasts_s=10), pytest.mark.timeout(600)]


def head_of_line_s(scene):
    heads = [value for (name, *_), value in scene.metrics().items() if name == "head_of_line_seconds"]
    return max(heads, default=0)


def test_f09_sigterm_while_idle(kind):
    """It stops within 5 s; when it starts again nothing waits and nothing is answered twice."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start()
        scene.publish(LEADS, *leads("a", 5))
        scene.settle(5)
        status, took_s = scene.worker.terminate(10)
        assert (status, scene.offset(LEADS)) == (0, 5)
        assert took_s < 5
        scene.worker.start()
        scene.publish(LEADS, *leads("b", 1))
        scene.settle(6)
        scene.until(lambda: scene.offset(LEADS) == 6, "committed")
        scene.until(lambda: scene.lag() == 0, "nothing waits")
        assert {len(records) for records in scene.answers("shop").values()} == {1}
        scene.judge()


def test_f10_sigterm_in_the_middle_of_an_event(kind):
    """The event is finished, or left unacknowledged for the next worker."""
    with kind.redis() as redis, kind.scene(redis) as scene:
        scene.worker.start(slow_s=1.5)
        scene.publish(LEADS, *leads("a", 5, member_id="m"))
        scene.until(lambda: head_of_line_s(scene) > 0, "in work")
        assert scene.audit.answered == 0
        status, took_s = scene.worker.terminate(10)
        assert status == 0
        assert took_s < 10
        scene.read_for(0.2)
        assert scene.audit.answered >= scene.offset(LEADS)
        scene.worker.start()
        scene.judge(5)


def test_f11_sigterm_while_redis_is_down(kind):
    """It stops within 10 s and has acknowledged nothing."""
    with kind.redis(appendonly=True) as redis, kind.scene(redis) as scene:
        scene.worker.start()
        scene.publish(LEADS, *leads("a", 5))
        scene.settle(5)
        scene.until(lambda: scene.offset(LEADS) == 5, "committed")
        redis.stop()
        scene.publish(LEADS, *leads("b", 5))
        scene.until(lambda: head_of_line_s(scene) > 0.5, "waiting for Redis")
        status, took_s = scene.worker.terminate(20)
        assert (status, scene.offset(LEADS)) == (0, 5)
        assert took_s < 10
        redis.start()
        scene.worker.start()
        scene.judge(10)
