"""One run: a seed chooses the world, the load, the workers and the faults; the judge has the last word."""

from __future__ import annotations

import gc
import logging
import os
from contextlib import closing

from router.reference import REFERENCE_TOPICS
from tests.simulation import judge
from tests.simulation.expected import Expected
from tests.simulation.faults import HEALED_S, Faults
from tests.simulation.group import Group
from tests.simulation.guides import HOURS_S, Guides
from tests.simulation.kafka import Broker
from tests.simulation.loop import Loop
from tests.simulation.redis import Server
from tests.simulation.worker import Worker
from tests.simulation.world import BEGIN_MS, World
from topics.catalog import (
    ASSIGNMENTS,
    BINDINGS,
    DEAD_LETTERS,
    DECISIONS,
    LEADS,
    RESERVATIONS,
    RESPONSES,
    TOUCHES,
)
from topics.codec import partition_of

WORK = (LEADS.name, RESERVATIONS.name, RESPONSES.name, BINDINGS.name, TOUCHES.name, ASSIGNMENTS.name)
#: What was late before the healing has happened by then.
SETTLED_S = HEALED_S + 12
#: Everything is done by then, or something is stuck.
DRAINED_S = HEALED_S + 120
#: How long guides go on where nothing goes wrong and everything is sent at once.
HARMLESS_S = 4.0
#: What is due later than this does not come any more.
SOON_MS = 200_000
#: How often to look whether all is done.
LOOK_S = 0.5
#: The workers have heard of the last changes by then, and looked once more whether anything is due.
COLUMNS_S = 5.0


class Simulation:
    """``trace`` is told a line about everything that happens."""

    def __init__(self, seed, *, harmless=False, trace=lambda _: None):
        self.loop = Loop()
        self.world = World(seed)
        self.harmless = harmless
        self._trace = lambda who, what: trace(f"{self.loop.now_s:7.3f} s  {who:4} {what}")
        self.faults = Faults(seed, self._trace, harmless=harmless)
        counts = dict.fromkeys(WORK, self.world.partitions)
        counts |= {topic.name: 1 for topic in (*REFERENCE_TOPICS, DECISIONS, DEAD_LETTERS)}
        self.partitions = counts
        self.broker = Broker(self.loop, self.now_ms, counts)
        self.server = Server(self.loop, self.now_ms)
        work = [tp for tp in self.broker.logs if tp[0] in WORK]
        self.group = Group(self.broker, self.faults, work)
        hours_s = HARMLESS_S if harmless else HOURS_S
        self.guides = Guides(seed, self.loop, self.broker, counts, self.now_ms, hours_s=hours_s)
        self.workers = []
        self._sent = False
        self._expected = Expected()
        self._wanted = 1 if harmless else self.world.workers
        self._started = 0

    def now_ms(self):
        return BEGIN_MS + int(self.loop.now_s * 1000)

    def run(self):
        """Run to the end; what is wrong, in words."""
        with closing(self.loop):
            return self._run()

    def _run(self):
        for sent in self.world.roster:
            self._append(sent)
        self.loop.spawn(self._send())
        self.loop.spawn(self.guides.answer())
        self.loop.spawn(self._supervise())
        if not self.harmless:
            self.loop.spawn(self._misfortunes())
            self.loop.run_until(HEALED_S)
            self._heal()
            self.loop.run_until(SETTLED_S)
        self._settle()
        found = [] if self._drained() else ["stuck: not everything was read to its end"]
        return (
            found
            + self.broker.complaints
            + self.server.complaints
            + judge.problems(self.broker, self.server, self.now_ms(), self._expected.outcomes)
            + judge.columns(self.server.db, self.workers)
        )

    def _settle(self):
        """Run until nothing is written any more: when a pause is over, or a place free, it begins anew."""
        written = None
        while written != self._written() and self.loop.now_s < DRAINED_S:
            while not self._drained() and self.loop.now_s < DRAINED_S:
                self.loop.run_until(self.loop.now_s + LOOK_S)
            written = self._written()
            self.loop.run_until(self.loop.now_s + COLUMNS_S)

    def _written(self):
        return sum(map(len, self.broker.logs.values()))

    def _drained(self):
        """Everything is read to its end, and nothing is due."""
        now_ms = self.now_ms()
        return (
            self._sent
            and self.loop.now_s > self.guides.hours_s
            and all(self.broker.committed[tp] == len(self.broker.logs[tp]) for tp in self.group.partitions)
            and not any(
                at_ms <= now_ms + SOON_MS
                for key, due in self.server.db.data.items()
                if key.endswith("}:due")
                for at_ms in due.values()
            )
        )

    def _append(self, sent):
        partition = partition_of(sent.key, self.partitions[sent.topic])
        offset = self.broker.append(sent.topic, partition, sent.key, sent.value)
        self._expected.note(sent, judge.place(sent.topic, partition, offset))

    async def _send(self):
        for sent in self.world.sent:
            if not self.harmless:
                await self.loop.sleep(max(0.0, sent.at_s - self.loop.now_s))
            self._append(sent)
        self._sent = True

    async def _supervise(self):
        """Start the workers, and start again those that have ended."""
        while True:
            self.workers = [worker for worker in self.workers if worker.process.alive]
            while len(self.workers) < self._wanted:
                self._started += 1
                worker = Worker(f"w{self._started}", self.group, self.server, self.partitions)
                self.workers.append(worker)
                worker.start()
            await self.loop.sleep(1.0)

    async def _misfortunes(self):
        for at_s, kind, lasts_s in self.faults.events:
            await self.loop.sleep(at_s - self.loop.now_s)
            self._trace("", f"{kind} {lasts_s:.1f} s" if lasts_s else kind)
            until_s = self.loop.now_s + lasts_s
            if kind == "redis down":
                self.server.down_until_s = until_s
            elif kind == "redis hangs":
                self.server.hung_until_s = until_s
            elif kind == "failover":
                self.loop.spawn(self._fail_over(self.server.snapshot()), delay_s=lasts_s)
            elif kind == "wipe":
                self.server.wipe()
            elif kind == "kafka down":
                self.broker.down_until_s = until_s
                self.loop.spawn(self._back(), delay_s=lasts_s)
            elif kind == "join":
                self._wanted = min(self._wanted + 1, 3)
            elif self.workers:
                self._hit(self.faults.rng.choice(self.workers), kind, until_s)

    def _hit(self, worker, kind, until_s):
        if kind == "pause":
            self._trace(worker.process.name, "is paused")
            worker.process.paused_until_s = until_s
            return
        if kind == "leave":
            self._wanted = max(self._wanted - 1, 1)
        self.loop.spawn(worker.stop())

    async def _fail_over(self, snapshot):
        self._trace("", "a replica takes over")
        self.server.fail_over(snapshot)

    async def _back(self):
        self.broker.wake()

    def _heal(self):
        self._trace("", "all is healed")
        self.faults.healed = True
        self.server.down_until_s = self.server.hung_until_s = self.broker.down_until_s = 0.0
        self.broker.wake()


def check(seed):
    """Run a seed with its faults, every fourth once more without any: all must come out as expected.

    Silently, since the router warns of every outage.
    """
    logging.disable(logging.CRITICAL)
    try:
        return replay(seed, lambda _: None)
    finally:
        logging.disable(logging.NOTSET)


def check_aside(seed):
    """The same in a process of its own, which leaves the processor to everybody who has less time.

    What a run leaves behind is collected once it is over: to look for it meanwhile took a tenth of the time.
    """
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    if gc.isenabled():
        gc.disable()
        gc.freeze()
    found = check(seed)
    gc.collect()
    return found


def told_aside(seed):
    """What is told of a run with faults, line by line; in a process of its own."""
    lines = []
    Simulation(seed, trace=lines.append).run()
    return lines


def replay(seed, trace):
    """The same, with a line about everything that happens to the run with faults."""
    found = Simulation(seed, trace=trace).run()
    if seed % 4 == 0:
        found += [f"without faults: {problem}" for problem in Simulation(seed, harmless=True).run()]
    return found
