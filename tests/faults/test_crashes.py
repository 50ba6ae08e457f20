"""F01 to F06: whatever a worker was doing when it was killed, the next one leaves the same state behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.faults.hooks import POINTS
from tests.faults.scene import BRAND, KILLED, leads
from topics.catalog import DEAD_LETTERS, LEADS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
COUNT = 5


@dataclass
class Death:
    """What was there when a worker had been killed at a point, with a batch of its own in work."""

    status: int
    answered: int = 0
    claimed: int = 0
    committed: bool = False
    letters: int = 0
    in_journeys: int = 0
    in_inboxes: int = 0


@pytest.fixture(scope="module")
def killed(kind):
    """Point to the scene in which a worker was killed there; three scenes side by side."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        shares = [list(POINTS)[first::3] for first in range(3)]
        scenes = []
        for _ in shares:
            redis = stack.enter_context(kind.redis())
            scenes.append(stack.enter_context(kind.scene(redis)))
        list(threads.map(die_and_recover, scenes, shares))
        yield {point: scene for scene, share in zip(scenes, shares, strict=True) for point in share}


def die_and_recover(scene, points):
    """Kill the worker at every point in turn, and start it a last time."""
    scene.deaths = {point: die_at(scene, point) for point in points}
    scene.worker.start()
    scene.settle(len(points) * (COUNT + 1))
    scene.worker.stop()


def die_at(scene, point):
    scene.worker.start(kill={point: f"{point}-"})
    scene.until(lambda: scene.offset(LEADS) == len(scene.records[LEADS.name]), "what was before is committed")
    # one member, so one partition: the batch is done or not done as one
    broken = (f"m-{point}".encode(), f'{{"broken": "{point}-"'.encode())
    scene.publish(LEADS, *leads(point, COUNT, member_id=f"m-{point}"), broken)
    status = scene.worker.wait(30)
    scene.read_for(0.2)
    mine = [name for _, name in scene.answers(BRAND) if name.startswith(f"{point}-")]
    return Death(
        status=status,
        answered=len(mine),
        claimed=scene.claimed(point),
        committed=scene.offset(LEADS) == len(scene.records[LEADS.name]),
        letters=letters(scene, point),
        in_journeys=sum(name.startswith(f"{point}-") for *_, name in scene.journeys()),
        in_inboxes=sum(name.startswith(f"{point}-") for *_, name in scene.inboxes()),
    )


def letters(scene, point):
    """Dead letters of the broken record that came with a point's batch."""
    return sum(f'"{point}-"'.encode() in (each.value() or b"") for each in scene.records[DEAD_LETTERS.name])


def same(killed, point):
    """How it died; all is as if it had not: answered once each, and the verifier has nothing to say."""
    scene = killed[point]
    scene.check()
    answers = {name: each for (_, name), each in scene.answers(BRAND).items() if f"{point}-" in name}
    assert len(answers) == COUNT
    assert all(record == records[0] for records in answers.values() for record in records)
    assert scene.claimed(point) == COUNT
    return scene.deaths[point]


def repeats(scene, point):
    return [len(each) for (_, name), each in scene.answers(BRAND).items() if f"{point}-" in name]


def test_f01_killed_after_reading(killed):
    death = same(killed, "c1")
    assert death == Death(KILLED)


def test_f02_killed_while_deciding(killed):
    assert same(killed, "c2") == same(killed, "c3") == Death(KILLED)


def test_f03_killed_with_a_claim_that_nobody_heard_of(killed):
    """The next worker gets the stored decision and publishes it: one assignment."""
    death = same(killed, "c4")
    assert death == Death(KILLED, claimed=COUNT)
    assert repeats(killed["c4"], "c4") == [1] * COUNT


def test_f04_killed_between_publishing_and_acknowledging(killed):
    """The same record comes again, and its guide sees one card."""
    death = same(killed, "c5")
    assert (death.status, death.answered, death.claimed) == (KILLED, COUNT, COUNT)
    assert not death.committed
    assert repeats(killed["c5"], "c5") == [2] * COUNT
    assert cards(killed["c5"], "c5") == COUNT


def test_f05_killed_between_acknowledging_and_committing(killed):
    death = same(killed, "c6")
    assert (death.status, death.answered, death.claimed) == (KILLED, COUNT, COUNT)
    assert not death.committed
    assert repeats(killed["c6"], "c6") == [2] * COUNT
    assert cards(killed["c6"], "c6") == COUNT


def test_f06_killed_between_a_dead_letter_and_its_acknowledgement(killed):
    """Two copies at most, of the same record; where nothing was published, one."""
    for point, copies in {"c1": 1, "c4": 1, "c5": 2, "c6": 2, "p1": 1}.items():
        assert letters(killed[point], point) == copies, point
    assert [killed[point].deaths[point].letters for point in ("c4", "c5")] == [0, 1]


@pytest.mark.parametrize(
    ("point", "journeys", "inboxes"), [("p1", 0, 0), ("p2", COUNT, 0), ("p3", COUNT, COUNT)]
)
def test_f04_the_projector_killed_at_every_step(killed, point, journeys, inboxes):
    """What it had half done is done by the next one; no card stands twice."""
    death = same(killed, point)
    assert (death.status, death.in_journeys, death.in_inboxes) == (KILLED, journeys, inboxes)
    assert cards(killed[point], point) == COUNT


def cards(scene, point):
    """Cards of a point's leads in the feeds of their guides, where everything that arrived stands."""
    feeds = [scene.redis.xrange(key) for key in scene.redis.scan_iter("lr:*:feed:*")]
    return sum(f'"{point}-'.encode() in b"".join(fields.values()) for feed in feeds for _, fields in feed)
