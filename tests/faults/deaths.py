"""Workers that are killed, each with work of its own on the way, and what each left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import orjson

from router.state import keys
from tests.faults.hooks import POINTS
from tests.faults.scene import BRAND, lead, leads, now_ms, shop
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, LEADS, POLICIES, RESPONSES
from topics.policies import Policy
from topics.responses import Response

COUNT = 5
#: What each lead of an answering death is answered with, lead by lead.
SAID = ("accepted", "declined", "accepted", "declined", "won")
#: Where a worker dies that follows answers: at the points of the way by these names.
ANSWERING = {"r3": "c3", "r4": "c4", "r5": "c5", "r6": "c6"}
#: Dies when a due time is published and still stands in Redis.
DUE = "t1"
#: In this order the one with a time due is the last of a short share.
DEATHS = (*POINTS, DUE, *ANSWERING)
#: A brand whose guides have two seconds to answer.
HASTY = "hasty"
HASTE = "remind_share = 1\nrespond_s = { vip = 2, repeat = 2, new = 2, prospect = 2 }\n"
#: The next worker publishes what is due before it follows what was published.
SLOW_S = 3


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


def die_and_recover(scene, names):
    """Kill the worker at every point in turn, and start it a last time; then every key is as the log says."""
    scene.deaths = {name: die(scene, name) for name in names}
    scene.worker.start(slow_s=SLOW_S if DUE in names else 0)
    scene.until(lambda: done(scene, RESPONSES), "all answers are followed")
    if DUE in names:
        scene.until(lambda: all(len(each) > 2 for each in stories(scene, DUE)), "offered to the next one")
    scene.judge(len(scene.records[LEADS.name]))


def die(scene, name):
    if name in ANSWERING:
        return die_answering(scene, name)
    return die_with_a_time_due(scene) if name == DUE else die_routing(scene, name)


def die_routing(scene, point):
    scene.worker.start(kill={point: f"{point}-"})
    scene.until(lambda: done(scene, LEADS), "what was before is committed")
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
        committed=done(scene, LEADS),
        letters=letters(scene, point),
        in_journeys=sum(name.startswith(f"{point}-") for *_, name in scene.journeys()),
        in_inboxes=sum(name.startswith(f"{point}-") for *_, name in scene.inboxes()),
    )


def die_answering(scene, name):
    """Leads are offered and answered by their guides; the worker dies on the way of the answers."""
    scene.worker.start(kill={ANSWERING[name]: f'"response_id":"{name}-'})
    scene.publish(LEADS, *leads(name, COUNT, member_id=f"m-{name}"))
    offered = scene.answer(BRAND, *(f"{name}-{number}" for number in range(COUNT)))
    scene.until(lambda: done(scene, LEADS) and done(scene, RESPONSES), "what was before is committed")
    scene.until(lambda: scene.journeys() == scene.logged(), "journeys like the log")
    before = held(scene, name)
    scene.publish(RESPONSES, *map(answer, offered, SAID))
    status = scene.worker.wait(30)
    scene.read_for(0.2)
    return Death(
        status=status,
        answered=sum(len(story) > 1 for story in stories(scene, name)),
        claimed=len(before - held(scene, name)),
        committed=done(scene, RESPONSES),
    )


def answer(offer, action):
    """What the guide of an offer says to it; its id carries the lead's name."""
    names = {name: offer[name] for name in ("lead_id", "member_id", "brand", "attempt", "guide_id")}
    return Response(response_id=offer["lead_id"], occurred_at_ms=now_ms(), action=action, **names)


def die_with_a_time_due(scene):
    """Nobody answers some offers; the worker dies when it has told so and not yet forgotten to."""
    scene.publish(POLICIES, Policy(brand=HASTY, version=1, toml=HASTE))
    scene.roster(shop(HASTY))
    scene.worker.start(kill={DUE: f"{DUE}-"})
    scene.publish(LEADS, *(lead(f"{DUE}-{number}", brand=HASTY, member_id="m") for number in range(COUNT)))
    status = scene.worker.wait(30)
    scene.read_for(0.2)
    return Death(
        status=status,
        answered=sum(len(story) > 1 for story in stories(scene, DUE)),
        claimed=sum(expiries(scene).values()),
    )


def done(scene, topic):
    return scene.offset(topic) == len(scene.records[topic.name])


def letters(scene, point):
    """Dead letters of the broken record that came with a point's batch."""
    return sum(f'"{point}-"'.encode() in (each.value() or b"") for each in scene.records[DEAD_LETTERS.name])


def held(scene, name):
    """The open attempts of a death's leads, each with its guide."""
    return {each for each in scene.redis.zrange(keys.open_attempts(f"{BRAND}/here"), 0, -1)
            if f"|{name}-".encode() in each}  # fmt: skip


def stories(scene, name):
    """Of each lead of a death, in the order of their ids, its effective records: state and guide."""
    found = sorted((lead_id, journey) for (_, _, lead_id), journey in scene.logged().items()
                   if lead_id.startswith(f"{name}-"))  # fmt: skip
    records = [[orjson.loads(journey[seq]) for seq in sorted(journey)] for _, journey in found]
    return [[(each["state"], each.get("guide_id")) for each in journey] for journey in records]


def copies(scene, name):
    """How often each record of a death's leads was published: brand, lead and seq to a count."""
    brand = HASTY if name == DUE else BRAND
    every = (each for each in scene.events(ASSIGNMENTS, brand) if each["lead_id"].startswith(f"{name}-"))
    return Counter((each["lead_id"], each["seq"]) for each in every)


def expiries(scene):
    """How often the end of each first offer was published, by the id of what was published."""
    ends = scene.events(RESPONSES, HASTY)
    return Counter(each["response_id"] for each in ends if each["attempt"] == 1)
