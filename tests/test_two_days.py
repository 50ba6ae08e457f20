"""Two days of three stores in seconds: opening hours, shifts, guides who answer or do not, and a night."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest

from router.local import EmbeddedRedis
from router.state import keys
from tests.lifecycle_model import FINAL, LIVE, TIERS, LeadModel, Model
from tests.lifecycle_world import BEGIN_MS, guide, lead, live, policy, presence, store
from topics.catalog import ASSIGNMENTS
from topics.guides import Period
from topics.responses import Response

pytestmark = pytest.mark.slow

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAYS = 2
#: The first midnight of the story by the clock of its stores, UTC+8.
MIDNIGHT_MS = (BEGIN_MS + 8 * HOUR_MS) // (24 * HOUR_MS) * 24 * HOUR_MS - 8 * HOUR_MS
OPENS_H, CLOSES_H = 10, 22
#: Early and late, by the hour.
SHIFTS = ((10, 16), (15, 22), (10, 22))
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GUIDES = {f"g{store}{number}": (f"s{store}", SHIFTS[number]) for store in range(3) for number in range(3)}


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def roster():
    hours = dict.fromkeys(WEEK, f"{OPENS_H}:00-{CLOSES_H}:00")
    for number in range(3):
        yield store(f"s{number}", version=2, lat=31.0 + 0.02 * number, hours=hours, timezone="Asia/Shanghai")
    for name, (store_id, (begin, end)) in GUIDES.items():
        days = [MIDNIGHT_MS + day * 24 * HOUR_MS for day in range(DAYS + 2)]
        shifts = tuple(Period(day + begin * HOUR_MS, day + end * HOUR_MS) for day in days)
        yield guide(name, capacity=12, store_id=store_id, shifts=shifts)


def hour_of(at_ms):
    local = datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(hours=8)
    return local.hour + local.minute / 60 + local.second / 3600


def answers(rng, now_ms):
    """What a guide means to do about an offer: when, and what."""
    fate = rng.random()
    begin = now_ms + rng.randint(1, 4) * MINUTE_MS
    if fate < 0.15:
        return [(begin, "declined")]
    if fate < 0.35:
        return []  # silence
    out = [(begin, "accepted")]
    for action in ("contacted", "visited", "won" if rng.random() < 0.6 else "lost"):
        if rng.random() < 0.15:
            break
        begin += rng.randint(10, 240) * MINUTE_MS
        out.append((begin, action))
    return out


def test_two_days_pass_and_nothing_is_left_lying(server):
    rng = Random("two days")  # noqa: S311 - a made-up world, not a secret
    model = Model({}, dict.fromkeys(GUIDES, 12), dict.fromkeys(GUIDES, True))
    wishes = sorted(rng.randrange(BEGIN_MS, BEGIN_MS + (DAYS * 24 - 4) * HOUR_MS) for _ in range(600))
    counts = Counter()

    async def story(world):
        await world.put(policy(toml="life_max_s = 86400\n", version=2))
        plans, read, number, minute = [], 0, 0, 0
        while minute < DAYS * 24 * 60:
            minute += 6
            world.arbiter.now = now_ms = BEGIN_MS + minute * MINUTE_MS
            events = []
            while number < len(wishes) and wishes[number] <= now_ms:
                name, tier = f"l{number}", rng.choice(TIERS)
                model.leads[name] = LeadModel("lead", tier, arrival=wishes[number])
                where = {"lat": 31.0 + 0.02 * rng.randrange(3), "member_id": f"m{number}"}
                events.append(lead(name, tier=tier, occurred_at_ms=wishes[number], **where))
                number += 1
            if minute % 360 == 0:
                events += [
                    presence(name, "offline" if rng.random() < 0.2 else "online", now_ms) for name in GUIDES
                ]
                model.there = {each.guide_id: each.status != "offline" for each in events[-len(GUIDES) :]}
            due = [each for each in plans if each[0] <= now_ms]
            plans = [each for each in plans if each[0] > now_ms]
            events += [response for _, response in due]
            await world.put(*events)
            await world.tick()
            log = world.log[ASSIGNMENTS.name]
            for record in log[read:]:
                card = orjson.loads(record.value)
                if card["seq"] <= model.leads[card["lead_id"]].seq:
                    continue
                attempt = model.leads[card["lead_id"]].attempt
                assert [each for each in model.told(card) if "overtakes" not in each] == []
                counts[card["state"]] += 1
                if card["attempt"] > attempt:  # a reminder is no new offer
                    check_hours(card)
                    said = answers(rng, now_ms)
                    plans += [
                        (
                            at_ms,
                            Response(
                                response_id=f"r.{card['lead_id']}.{card['attempt']}.{action}",
                                lead_id=card["lead_id"],
                                member_id=card["member_id"],
                                brand="b",
                                occurred_at_ms=at_ms,
                                action=action,
                                attempt=card["attempt"],
                                guide_id=card["guide_id"],
                            ),
                        )
                        for at_ms, action in said
                    ]
            read = len(log)
            assert model.settled(()) == []
            if minute % 120 == 0:
                overdue = await world.redis.zrangebyscore(keys.due("b/-"), 0, now_ms - 10 * MINUTE_MS)
                assert overdue == []

    live(server, story, *roster())
    states = Counter(each.state for each in model.leads.values())
    assert sum(states.values()) == len(wishes)
    assert states.keys() <= {*FINAL, *LIVE, "waiting"}
    assert all(each.queue for each in model.leads.values() if each.state == "waiting")
    # all of it happened, and most leads of the first day came to an end
    assert min(counts[state] for state in ("accepted", "declined", "expired", "waiting", "won", "lost")) > 10
    first_day = [model.leads[f"l{n}"] for n, at in enumerate(wishes) if at < BEGIN_MS + 16 * HOUR_MS]
    assert sum(each.state in FINAL for each in first_day) > 0.6 * len(first_day)


def check_hours(card):
    """Nothing is offered while the store is closed or the guide not on shift."""
    begin, end = GUIDES[card["guide_id"]][1]
    assert max(begin, OPENS_H) <= hour_of(card["at_ms"]) < min(end, CLOSES_H), card
