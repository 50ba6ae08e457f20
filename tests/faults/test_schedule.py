"""F16: three workers under load, stopped and started six times, then killed six times."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.scene import QUICK

STOPS = KILLS = 6
#: What two workers on one busy processor still keep up with: a backlog would be another fault.
RATE_PER_S = 500


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.real)], indirect=True)
def test_f16_three_workers_are_stopped_and_killed_under_load(kind):
    """The verifier is clean: all delivered, each answered by one effective record."""
    with kind.redis() as redis, kind.scene(redis, workers=3, country=True) as scene:
        for worker in scene.workers:
            worker.environment["LEAD_ROUTER_BATCH_WAIT_MS"] = "5"
            worker.start()
        with scene.load(leads=200_000, rate_per_s=RATE_PER_S) as sending:
            scene.until(lambda: scene.audit.answered > 2 * RATE_PER_S, "routed")
            for worker in itertools.islice(itertools.cycle(scene.workers), STOPS):
                status, _ = worker.terminate(45)  # with full buffers, on a busy machine
                assert status == 0, worker.log[-3000:]
                worker.launch()
                scene.read_for(2.5)
            for worker in itertools.islice(itertools.cycle(scene.workers), KILLS):
                worker.kill()
                worker.launch()
                scene.read_for(QUICK["broker_session_timeout"])
            assert sending.poll() is None, "the load went on to the end of it"
            sending.terminate()
        for worker in scene.workers:
            worker.ready()
        scene.until(lambda: not scene.audit.unanswered, "all answered", within_s=90)
        scene.settle()
        for worker in scene.workers:
            worker.stop()
        scene.check()
        assert scene.inputs() > RATE_PER_S * (STOPS * 2.5 + KILLS * 3)
