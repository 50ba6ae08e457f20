"""One worker process: the real parts over the fakes, put together as ``router.worker`` does."""

from __future__ import annotations

from functools import partial

from router.changes import Changes
from router.delivery import Delivery
from router.errors import EffectError, OutageError
from router.flow import Flow
from router.outbox import Outbox
from router.projector import Projector
from router.recovery import Recovery
from router.reference import REFERENCE_TOPICS, Reference
from router.state.arbiter import Arbiter
from router.state.guard import Guard
from router.timers import Timers, share_of
from router.tracking import Tracking
from tests.simulation.group import Member
from tests.simulation.kafka import Publisher
from tests.simulation.loop import EndedError, Process
from tests.simulation.redis import Connection, Scripts
from tests.simulation.world import POISON
from topics.catalog import ASSIGNMENTS, BINDINGS, LEADS, RESERVATIONS, RESPONSES, TOUCHES

REFRESH_S = 1.0
TICK_S = 0.7
#: More than a failover loses and a producer keeps back, less than a run lasts.
WINDOW_MS = 15_000
#: As ``router.feed.Feed.BEHIND``: more than a worker gets through in that time.
BEHIND = 60
#: After so long a worker that was told to stop is killed.
STOP_S = 8.0


class Worker:
    def __init__(self, name, group, server, partitions):
        faults, broker = group.faults, group.broker
        self.process = Process(name)
        self.loop = group.loop
        self.faults = faults
        self.group = group
        self.broker = broker
        self.member = Member(group, self.process)
        self.reference = Reference(lambda *_: None)
        self.guard = Guard()
        self.arbiter = self._arbiter(server, self.guard)
        self.changes = Changes(self.arbiter, self.reference)
        self.recovery = Recovery(
            self._arbiter(server),
            self.guard,
            self.reference,
            self._read_log,
            ASSIGNMENTS.name,
            lambda: self.faults.trace(self.process.name, "found Redis without what it was told"),
            window_ms=WINDOW_MS,
        )
        self._marked = set()
        self.publisher = Publisher(broker, faults, self.process)
        self.outbox = Outbox("", partitions)
        self.flow = Flow(self.reference, self.arbiter, self.publisher, self.outbox)
        self.projector = Projector(
            self.arbiter, lambda: self.reference.roster, lambda: self.guard.restore_until_ms
        )
        self._responses = partitions[RESPONSES.name]
        self.timers = Timers(self.arbiter, self.reference, self.flow, self.publisher, self.outbox, self._mine)
        self.delivery = Delivery(
            self.set_aside,
            lambda: self.member.leaving,
            outage_max_s=faults.outage_max_s,
            end=self.end,
            pause=self.loop.sleep,
            clock=lambda: self.loop.now_s,
        )
        self._read = dict.fromkeys(REFERENCE_TOPICS, 0)

    def start(self):
        self.faults.trace(self.process.name, "starts")
        self.loop.spawn(self._run(), self.process)

    async def stop(self):
        """Tell it to stop, as SIGTERM does; part of the surroundings."""
        self.faults.trace(self.process.name, "is told to stop")
        self.process.stopping = True
        self.broker.wake()
        patience_ends_s = self.loop.now_s + STOP_S
        while self.process.alive and self.member.in_flight and self.loop.now_s < patience_ends_s:
            await self.loop.sleep(0.1)
        if self.member.responds:
            self.group.leave(self.member)
        self.process.alive = False

    def end(self, status):
        self.faults.trace(self.process.name, f"ends with status {status}")
        self.process.alive = False
        raise EndedError

    async def set_aside(self, refusals):
        await self.publisher.publish(self.outbox.dead_letters(refusals))

    async def _run(self):
        """Become ready, take part in the group, keep current."""
        while not await self._refresh():
            await self.loop.sleep(REFRESH_S)
        self.group.join(self.member)
        tracking = Tracking(self.arbiter.members)
        for topic, work in (
            (LEADS, partial(self._route, LEADS)),
            (RESERVATIONS, partial(self._route, RESERVATIONS)),
            (RESPONSES, self.flow.follow),
            (BINDINGS, partial(self._track, tracking.bind)),
            (TOUCHES, partial(self._track, tracking.touch)),
            (ASSIGNMENTS, self._project),
        ):
            self.loop.spawn(self._follow(topic.name, work), self.process)
        self.loop.spawn(self.member.heartbeat(), self.process)
        self.loop.spawn(self._keep_time(), self.process)
        while True:
            await self.loop.sleep(REFRESH_S * self._calm)
            await self._refresh()

    async def _keep_time(self):
        while True:
            try:
                if self.guard.whole and not self.member.leaving:
                    await self.timers.tick()
            except OutageError:
                pass
            except EffectError:
                self.end(70)
            await self.loop.sleep(TICK_S * self._calm)

    @property
    def _calm(self):
        """When all is healed there is time: fewer turns make a run shorter."""
        return 4 if self.faults.healed else 1

    def _mine(self, names):
        held = self.member.partitions(RESPONSES.name)
        return [name for name in names if share_of(name, self._responses) in held]

    def _arbiter(self, server, guard=None):
        connection = Connection(server, self.faults, self.process, guard)
        return Arbiter(Scripts(connection, self.faults, self.process, guard))

    async def _read_log(self, topic, since_ms):
        """The log as it is at this moment, in pieces."""
        await self.loop.sleep(self.faults.latency_s())
        if self.broker.down:
            raise OutageError("Kafka is down")
        for (name, part), log in list(self.broker.logs.items()):
            if name != topic.name:
                continue
            young = next((at for at, each in enumerate(log) if each.timestamp >= (since_ms or 0)), len(log))
            begin = min(young, max(0, self.broker.committed[name, part] - BEHIND)) if since_ms else 0
            for start in range(begin, len(log), 20):
                yield log[start : start + 20]

    async def _refresh(self):
        for topic in REFERENCE_TOPICS:
            log = self.broker.logs[topic.name, 0]
            # the first time all of it, as the product does; later some workers hear of changes before others
            all_of_it = self.faults.healed or not self.guard.has_trusted
            end = len(log) if all_of_it else self.faults.rng.randint(self._read[topic], len(log))
            for record in log[self._read[topic] : end]:
                self.reference.apply(topic, record.key, record.value)
            self._read[topic] = end
        try:
            await self._catch_up()
        except OutageError:
            return False
        return self.guard.whole

    async def _catch_up(self):
        if not self.guard.whole:
            self.changes.forget()
            await self.recovery.run()
            if not self.guard.whole:
                return
            self._marked = set(self.reference.cells)
        rows = self.reference.refresh(await self.arbiter.now_ms())
        await self.arbiter.set_capacities(rows)
        self.reference.told(rows)
        opened = [cell for cell in self.reference.cells if cell not in self._marked]
        await self.arbiter.mark(opened, await self.arbiter.begin(opened, "opened"))
        self._marked.update(opened)
        await self.changes.follow()

    async def _follow(self, topic, work):
        while (batch := await self.member.next_batch(topic)) is not None:
            first = batch.records[0]
            self.faults.trace(
                self.process.name, f"{topic}[{first.partition}]@{first.offset}: batch of {len(batch.records)}"
            )
            await self.faults.pass_point("c1", self.process)
            await self.delivery.carry(batch, work)
            await self.faults.pass_point("c6", self.process)

    async def _route(self, topic, records):
        if any(POISON in (record.value or b"") for record in records):
            raise ValueError("a planted bug")
        await self.flow.route(topic, records)

    async def _track(self, follow, records):
        await self.set_aside(await follow(records))

    async def _project(self, records):
        await self.set_aside(await self.projector.project(records))
