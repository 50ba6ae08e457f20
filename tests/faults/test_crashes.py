"""F01 to F06: whatever a worker was doing when it was killed, the next one leaves the same state behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import orjson
import pytest

from router.state import keys
from tests.faults.deaths import (
    COUNT,
    DEATHS,
    DUE,
    HASTY,
    SAID,
    Death,
    copies,
    die_and_recover,
    expiries,
    held,
    letters,
    stories,
)
from tests.faults.scene import BRAND, KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
#: Scenes side by side.
SCENES = 5


@pytest.fixture(scope="module")
def killed(kind):
    """Death to the scene in which a worker died so."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        shares = [list(DEATHS)[first::SCENES] for first in range(SCENES)]
        scenes = []
        for _ in shares:
            redis = stack.enter_context(kind.redis())
            scene = stack.enter_context(kind.scene(redis))
            # a busy broker may hand over in parts what was sent at once: it dies as one batch
            scene.worker.environment["LEAD_ROUTER_BATCH_WAIT_MS"] = "500"
            scenes.append(scene)
        list(threads.map(die_and_recover, scenes, shares))
        yield {name: scene for scene, share in zip(scenes, shares, strict=True) for name in share}


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
    for point, times in {"c1": 1, "c4": 1, "c5": 2, "c6": 2, "p1": 1}.items():
        assert letters(killed[point], point) == times, point
    assert [killed[point].deaths[point].letters for point in ("c4", "c5")] == [0, 1]


@pytest.mark.parametrize(
    ("point", "journeys", "inboxes"), [("p1", 0, 0), ("p2", COUNT, 0), ("p3", COUNT, COUNT)]
)
def test_f04_the_projector_killed_at_every_step(killed, point, journeys, inboxes):
    """What it had half done is done by the next one; no card stands twice."""
    death = same(killed, point)
    assert (death.status, death.in_journeys, death.in_inboxes) == (KILLED, journeys, inboxes)
    assert cards(killed[point], point) == COUNT


# -- killed while following what guides answered


def followed(killed, name):
    """How it died; all is as if it had not: every answer has its one effect, and no capacity is lost."""
    scene = killed[name]
    scene.check()
    assert [[state for state, _ in story] for story in stories(scene, name)] == [
        STORIES[said] for said in SAID
    ]
    holders = {}
    for lead, story in enumerate(stories(scene, name)):
        guides = [guide for _, guide in story]
        assert len(set(guides[:2])) == 1
        assert set(guides[2:]) == {"a", "b"} - {guides[0]} if SAID[lead] == "declined" else not guides[2:]
        holders[f"{name}-{lead}"] = guides[-1]
    del holders[f"{name}-{SAID.index('won')}"]
    assert held(scene, name) == {f"{guide}|lead|{lead}|m-{name}".encode() for lead, guide in holders.items()}
    assert outcomes(scene, name) == ["applied"] * COUNT
    return scene.deaths[name]


#: What an answer leaves of its lead's story.
STORIES = {
    "accepted": ["offered", "accepted"],
    "declined": ["offered", "declined", "offered"],
    "won": ["offered", "won"],
}


def outcomes(scene, name):
    """What each sender of an answer can read of it."""
    leads = [f"{name}-{number}" for number in range(COUNT)]
    told = [scene.redis.hget(keys.journey(BRAND, f"m-{name}", "lead", each), f"r|{each}") for each in leads]
    return [orjson.loads(each)["outcome"] for each in told]


def published(killed, name):
    """How often each record was published that follows from the answers."""
    return {count for (_, seq), count in copies(killed[name], name).items() if seq > 1}


#: Leads that are taken out of the hands of the guide who held them.
MOVED = SAID.count("declined") + SAID.count("won")


def test_f02_killed_while_deciding_on_answers(killed):
    assert followed(killed, "r3") == Death(KILLED)
    assert published(killed, "r3") == {1}


def test_f03_killed_with_answers_followed_that_nobody_heard_of(killed):
    """The next worker publishes the stored steps: one decline, one other offer, by the same answer."""
    assert followed(killed, "r4") == Death(KILLED, claimed=MOVED)
    assert published(killed, "r4") == {1}


@pytest.mark.parametrize("name", ["r5", "r6"], ids=["f04-published", "f05-acknowledged"])
def test_killed_with_answers_that_come_again(killed, name):
    """The same records come again, and have their effect once."""
    assert followed(killed, name) == Death(KILLED, answered=COUNT, claimed=MOVED)
    assert published(killed, name) == {2}


# -- killed with a time due


def test_f07_killed_between_publishing_a_due_time_and_forgetting_it(killed):
    """The same end of an offer is published twice, with one id; each lead is offered to the next one once."""
    scene = killed[DUE]
    scene.check()
    assert scene.deaths[DUE] == Death(KILLED, claimed=COUNT)
    assert list(expiries(scene).values()) == [2] * COUNT
    for story in stories(scene, DUE):
        first = story[0][1]
        [other] = {"a", "b"} - {first}
        assert story[:3] == [("offered", first), ("expired", first), ("offered", other)]
    # the second one gets the stored steps, and publishes the same records again
    assert {count for (_, seq), count in copies(scene, DUE).items() if seq in {2, 3}} == {2}
    for records in scene.answers(HASTY).values():
        steps = {(each["seq"], each["state"], each["attempt"], each["guide_id"]) for each in records[:5]}
        assert len(steps) == len({seq for seq, *_ in steps})


def cards(scene, point):
    """Cards of a point's leads in the feeds of their guides, where everything that arrived stands."""
    feeds = [scene.redis.xrange(key) for key in scene.redis.scan_iter("lr:*:feed:*")]
    return sum(f'"{point}-'.encode() in b"".join(fields.values()) for feed in feeds for _, fields in feed)
