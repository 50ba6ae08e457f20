"""A consumer group: generations, rebalances, zombies, and the commit frontier of ``router.transport``."""

from __future__ import annotations

from collections import deque

#: How long a member may be silent before the group goes on without it.
SESSION_S = 5.0
#: How long a rebalance waits for the batches in flight.
PATIENCE_S = 8.0
HEARTBEAT_S = 0.5
CHUNK_MAX = 6
BATCH_MAX = 12


class Chunk:
    """Records of one partition, delivered and acknowledged as one."""

    def __init__(self, tp, records):
        self.tp = tp
        self.records = records
        self.last = records[-1].offset
        self.acked = self.dropped = False


class Batch:
    """What the agent carries through its work; as ``router.transport.Batch``."""

    def __init__(self, member, chunks):
        self.records = [record for chunk in chunks for record in chunk.records]
        self._member = member
        self._chunks = chunks

    @property
    def stale(self):
        return any(chunk.dropped for chunk in self._chunks)

    def ack(self):
        if self in self._member.in_flight:
            for chunk in self._chunks:
                chunk.acked = True
            self._member.in_flight.remove(self)

    def release(self):
        if self in self._member.in_flight:
            self._member.in_flight.remove(self)
            self._member.given_up.update(chunk.tp for chunk in self._chunks)


class Member:
    """The consumer of one worker: it believes to own its partitions until somebody tells it otherwise."""

    def __init__(self, group, process):
        self.group = group
        self.process = process
        self.generation = 0
        self.rebalancing = self.flowing = False
        self.in_flight = []
        self.silent_s = 0.0
        self.given_up = set()
        self._chunks = {}
        self._position = {}
        self._reached = {}

    @property
    def responds(self):
        return self.process.alive and self.process.paused_until_s <= self.group.loop.now_s

    @property
    def leaving(self):
        return self.rebalancing or self.process.stopping

    def partitions(self, topic):
        return {partition for name, partition in self._position if name == topic}

    async def next_batch(self, topic):
        """Wait for a batch of the topic; None when the worker stops."""
        while not self.process.stopping:
            batch = self._fetch(topic) if self.flowing and not self.group.broker.down else None
            if batch is not None:
                self.in_flight.append(batch)
                return batch
            await self.group.broker.arrived[topic].wait()
        return None

    def _fetch(self, topic):
        rng, logs = self.group.faults.rng, self.group.broker.logs
        owned = [tp for tp in self._position if tp[0] == topic and tp not in self.given_up]
        if all(len(logs[tp]) == self._position[tp] for tp in owned):
            return None
        chunks, room = [], 500 if self.group.faults.healed else rng.randint(1, BATCH_MAX)
        for tp in rng.sample(owned, len(owned)):
            while room > 0:
                most = room if self.group.faults.healed else rng.randint(1, CHUNK_MAX)
                records = logs[tp][self._position[tp] : self._position[tp] + most]
                if not records:
                    break
                chunk = Chunk(tp, records)
                self._position[tp] = chunk.last + 1
                self._chunks[tp].append(chunk)
                chunks.append(chunk)
                room -= len(records)
        return Batch(self, chunks) if chunks else None

    def frontier(self, tp):
        """Up to where everything delivered is acknowledged, in the order of delivery; None: nothing is."""
        chunks = self._chunks[tp]
        while chunks and chunks[0].acked:
            self._reached[tp] = chunks.popleft().last + 1
        return self._reached.get(tp)

    def commit(self):
        """Commit the frontiers."""
        for tp in self._chunks:
            offset = self.frontier(tp)
            if offset is not None:
                self.group.commit(self, tp, offset)

    def drop(self):
        """Forget all partitions: their batches are stale from now on."""
        for chunks in self._chunks.values():
            for chunk in chunks:
                chunk.dropped = True
        self.flowing = False
        self.given_up.clear()
        self._chunks, self._position, self._reached = {}, {}, {}

    def take(self, generation, partitions):
        self.drop()
        self.generation = generation
        self.rebalancing, self.flowing = False, True
        self._position = {tp: self.group.broker.committed[tp] for tp in partitions}
        self._chunks = {tp: deque() for tp in partitions}

    async def heartbeat(self):
        """Commit now and then; learn in this way that the group has gone on, and join again."""
        while True:
            await self.group.loop.sleep(HEARTBEAT_S)
            if self.group.broker.down:
                continue
            self.commit()
            if not self.group.is_current(self):
                self.group.faults.trace(self.process.name, "is told that it lost its partitions")
                self.drop()
                self.in_flight.clear()
                self.group.join(self)


class Group:
    """The coordinator: decides who owns what, in generations."""

    def __init__(self, broker, faults, partitions):
        self.broker = broker
        self.loop = broker.loop
        self.faults = faults
        self.generation = 0
        self.members = []
        self.partitions = partitions
        self._changes = self._settled = 0
        self.loop.spawn(self._rebalance_when_changed())
        self.loop.spawn(self._watch())

    def join(self, member):
        if member not in self.members:
            self.members.append(member)
        self._changes += 1

    def leave(self, member):
        if member in self.members:
            member.commit()
            self.members.remove(member)
            self._changes += 1
        member.drop()

    def commit(self, member, tp, offset):
        """Take a commit; one of an old generation is refused."""
        if self.is_current(member) and not self.faults.commit_fails():
            self.broker.commit(tp, offset)

    def is_current(self, member):
        return member in self.members and member.generation in {0, self.generation}

    async def _watch(self):
        while True:
            await self.loop.sleep(1.0)
            for member in list(self.members):
                member.silent_s = 0.0 if member.responds else member.silent_s + 1.0
                if member.silent_s > SESSION_S:
                    self.faults.trace(member.process.name, "is expelled from the group")
                    self.members.remove(member)
                    self._changes += 1

    async def _rebalance_when_changed(self):
        while True:
            await self.loop.sleep(0.1)
            if self._changes != self._settled and not self.broker.down:
                self._settled = self._changes
                await self._rebalance()

    async def _rebalance(self):
        for member in self.members:
            member.rebalancing = True
        # a worker may know that it has to leave before its fetcher stops
        await self.loop.sleep(self.faults.rng.uniform(0, 2) * (not self.faults.healed))
        for member in self.members:
            member.flowing = False
        patience_ends_s = self.loop.now_s + PATIENCE_S
        while self._busy(patience_ends_s):
            await self.loop.sleep(0.1)
        self.generation += 1
        for member in self.members:
            member.generation = self.generation
            member.commit()
            member.in_flight.clear()
        for row, member in enumerate(self.members):
            owned = self.partitions[row :: len(self.members)]
            member.take(self.generation, owned)
            self.faults.trace(
                member.process.name, f"owns {len(owned)} partitions, generation {self.generation}"
            )
        self.broker.wake()

    def _busy(self, patience_ends_s):
        """Whether to wait on: for the silent until they are expelled, for the others with patience."""
        if any(not member.responds for member in self.members):
            return True
        return self.loop.now_s < patience_ends_s and any(member.in_flight for member in self.members)
