"""The lifecycle in one process: real flow, timers and projector on Valkey, a log in memory, made-up time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

import orjson

from router.changes import Changes
from router.errors import OutageError
from router.flow import Flow
from router.inbox import Inbox
from router.outbox import Outbox
from router.projector import Projector
from router.reference import REFERENCE_TOPICS, Reference
from router.state import keys
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from router.timers import Timers
from tests.parts import PATIENT_S
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, LEADS, RESERVATIONS, RESPONSES, TOPICS
from topics.codec import encode, key_of
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.policies import Policy
from topics.reservations import Reservation
from topics.responses import Response
from topics.stores import Store

BEGIN_MS = 1_790_000_000_000
TOPIC_OF = {topic.event: topic for topic in TOPICS if topic.event is not None}
#: How offers, limits and the ladder go in these stories, unless they say otherwise.
TOML = """
remind_share = 1
silent_max = 2
pause_s = 100
ladder = ["owner", "store", "near", "hq"]
[respond_s]
vip = 10
repeat = 10
new = 10
prospect = 10
[limit_s]
accepted = 60
contacted = 60
visited = 60
[ladder_s]
near = 30
hq = 40
"""


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int


class Clocked(Arbiter):
    """An arbiter whose Redis has the time of the story."""

    now = BEGIN_MS

    async def now_ms(self):
        return self.now

    async def fix_cells(self, proposals, in_charge):
        homes, _ = await super().fix_cells(proposals, in_charge)
        return homes, self.now


class LifecycleWorld:
    """What is put goes into the log; ``wait`` lets time pass, and all be done that is due then."""

    def __init__(self, scripts):
        self.redis = scripts.redis
        self.log = defaultdict(list)
        self.down = False
        self.reference = Reference(lambda *_: None)
        self.arbiter = Clocked(scripts)
        self.changes = Changes(self.arbiter, self.reference)
        self.outbox = Outbox("", dict.fromkeys((topic.name for topic in TOPICS), 1))
        self.flow = Flow(self.reference, self.arbiter, self, self.outbox)
        self.timers = self.another_workers_timers()
        self.projector = Projector(self.arbiter, lambda: self.reference.roster, lambda: 0)
        self._read = defaultdict(int)
        self._marked = set()
        self._sent = 0
        self.work = {
            LEADS.name: lambda records: self.flow.route(LEADS, records),
            RESERVATIONS.name: lambda records: self.flow.route(RESERVATIONS, records),
            RESPONSES.name: self.flow.follow,
            ASSIGNMENTS.name: lambda records: self.projector.project(records),  # noqa: PLW0108 - the one of now
        }

    def another_workers_timers(self):
        return Timers(self.arbiter, self.reference, self.flow, self, self.outbox, list)

    async def publish(self, records):
        """Stands where the publisher does."""
        if self.down and records:
            raise OutageError("the broker is away")
        for each in records:
            self._append(each.topic, each.key, each.value, getattr(each, "headers", ()))

    def _append(self, topic, key, value, headers=()):
        log = self.log[topic]
        log.append(Record(topic, 0, len(log), key, value, headers, self.arbiter.now))

    async def put(self, *events):
        """Take in events of any topic, and all that follows from them at this moment."""
        for event in events:
            topic = TOPIC_OF[type(event)]
            if topic in REFERENCE_TOPICS:
                self.reference.apply(topic, key_of(topic, event), encode(event))
            else:
                self._append(topic.name, key_of(topic, event), encode(event))
        await self.refresh()
        await self.settle()

    async def remove(self, topic, key):
        self.reference.apply(topic, key.encode(), None)
        await self.refresh()

    async def refresh(self):
        """One turn of a worker: tell capacities, learn what Redis has changed."""
        rows = self.reference.refresh(self.arbiter.now)
        await self.arbiter.set_capacities(rows)
        self.reference.told(rows)
        opened = [cell for cell in self.reference.cells if cell not in self._marked]
        await self.arbiter.mark(opened, await self.arbiter.begin(opened, "opened"))
        self._marked.update(opened)
        await self.changes.follow()

    async def settle(self):
        """Work until every topic is read to its end."""
        while unread := [name for name in self.work if self._read[name] < len(self.log[name])]:
            for name in unread:
                records = self.log[name][self._read[name] :]
                self._read[name] += len(records)
                await self.work[name](records)
        await self.refresh()

    async def tick(self):
        await self.refresh()
        await self.timers.tick()
        await self.settle()

    async def wait(self, seconds, step_s=1):
        """Let time pass, second by second, with a tick in each."""
        for _ in range(0, seconds, step_s):
            self.arbiter.now += step_s * 1000
            await self.tick()

    async def say(self, action, lead_id="l", **more):
        """Somebody responds; what became of it as they are told, None where nobody is told."""
        self._sent += 1
        name = more.pop("response_id", f"r{self._sent}")
        fields = {"member_id": "m", "brand": "b", "occurred_at_ms": self.arbiter.now} | more
        await self.put(Response(response_id=name, lead_id=lead_id, action=action, **fields))
        return await self.told(name, lead_id)

    async def told(self, response_id, lead_id="l"):
        field = f"{keys.RESPONSE}{response_id}"
        held = await self.redis.hget(keys.journey("b", "m", "lead", lead_id), field)
        return orjson.loads(held)["outcome"] if held else None

    async def restarted(self, *events):
        """Another worker in place of this one, which has read these events of the reference topics alone."""
        other = LifecycleWorld(self.arbiter.scripts)
        other.log, other._read, other.arbiter.now = self.log, self._read, self.arbiter.now
        other.reference.keep(self.reference.cells)
        await other.put(*events)
        return other

    async def restore(self):
        """What a recovery does with a Redis that has lost everything."""
        everything = Projector(self.arbiter, lambda: self.reference.roster, lambda: 2**63)
        await everything.project(self.log[ASSIGNMENTS.name], overrule=True)
        self.reference.untell()
        self._marked.clear()
        await self.refresh()

    # -- what the log says

    def story(self, lead_id="l"):
        """The records of a lead, first of each seq, as ``state guide`` or ``state queue``."""
        return [
            f"{each['state']} {each.get('guide_id') or each.get('queue')}" for each in self.records(lead_id)
        ]

    def records(self, lead_id="l"):
        first = {}
        for record in self.log[ASSIGNMENTS.name]:
            event = orjson.loads(record.value)
            if event["lead_id"] == lead_id:
                first.setdefault(event["seq"], event)
        return [first[seq] for seq in sorted(first)]

    def state(self, lead_id="l"):
        return self.story(lead_id)[-1]

    def published(self, action):
        """Ids of the router's own responses of a kind, in order, repeats and all."""
        events = [orjson.loads(record.value) for record in self.log[RESPONSES.name]]
        return [event["response_id"] for event in events if event["action"] == action]

    def dead_letters(self):
        """The reasons of what was set aside."""
        return [dict(record.headers)["reason"].decode() for record in self.log[DEAD_LETTERS.name]]

    async def inbox(self, guide_id):
        """The leads in a guide's inbox."""
        return [card.lead_id for card in await Inbox(self.redis, "b", guide_id).cards()]

    async def load(self, guide_id, cell="b/-"):
        return (await self.arbiter.loads([cell]))[cell][guide_id]


def live(server, story, *events):
    """Run a story in a world of these events, on an empty server."""

    async def whole():
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        try:
            await scripts.redis.flushall()
            world = LifecycleWorld(scripts)
            await world.put(policy(), store(), *events)
            await story(world)
        finally:
            await scripts.close()

    asyncio.run(whole())


def policy(more="", version=1, toml=TOML):
    """The rules of these stories; ``more`` is TOML that comes before their tables."""
    return Policy(brand="b", version=version, toml=more + toml)


def store(store_id="s", version=1, **more):
    fields = {"lat": 31.0, "lon": 121.0, "kind": "franchise", "active": True} | more
    return Store(store_id=store_id, brand="b", version=version, **fields)


def guide(guide_id, version=1, capacity=1, **more):
    fields = {"store_id": "s", "active": True} | more
    return Guide(guide_id=guide_id, brand="b", version=version, capacity=capacity, **fields)


def presence(guide_id, status, at_ms=BEGIN_MS):
    return Presence(guide_id=guide_id, brand="b", status=status, occurred_at_ms=at_ms)


def lead(lead_id="l", **more):
    fields = {"member_id": "m", "brand": "b", "occurred_at_ms": BEGIN_MS, "lat": 31.0, "lon": 121.0} | more
    return Lead(lead_id=lead_id, **fields)


def booked(reservation_id="l", **more):
    fields = {"version": 1, "member_id": "m", "brand": "b", "occurred_at_ms": BEGIN_MS, "store_id": "s"}
    fields |= {"starts_at_ms": BEGIN_MS + 10**8, "ends_at_ms": BEGIN_MS + 10**8 + 1, "status": "booked"}
    return Reservation(reservation_id=reservation_id, **fields | more)
