"""What goes wrong and when, all from the seed: rates for every call, crash points, events on a schedule."""

from __future__ import annotations

from random import Random

from tests.simulation.loop import forever

#: Where a worker may be killed.
#: Routing: read -c1- decode -c2- score -c3- claim -c4- publish -c5- acknowledge -c6- commit;
#: the projector: read -p1- keep journeys -p2- deliver cards -p3- acknowledge.
POINTS = ("c1", "c2", "c3", "c4", "c5", "c6", "p1", "p2", "p3")
#: Until when things go wrong; then all is healed and the rest drained.
HEALED_S = 20.0

REDIS_FATES = ("ok", "refused", "lost", "executed", "late")
KAFKA_FATES = ("ok", "slow", "failed", "unconfirmed", "partly", "late", "unforeseen")
#: Seconds that each kind of event may last.
EVENTS = {
    "stop": (0, 0),
    "join": (0, 0),
    "leave": (0, 0),
    "pause": (1, 14),
    "redis down": (1, 8),
    "redis hangs": (1, 8),
    "kafka down": (1, 8),
    "failover": (0.05, 3),
    "wipe": (0, 0),
}


class Faults:
    """The misfortunes of one run; ``harmless`` makes a run without any."""

    def __init__(self, seed, trace, *, harmless=False):
        self.rng = rng = Random(f"faults/{seed}")  # noqa: S311 - a made-up world, not a secret
        self.trace = trace
        self.healed = harmless
        self._redis_rate = rng.choice((0, 0.02, 0.1, 0.25))
        self._kafka_rate = rng.choice((0, 0.05, 0.2))
        self._commit_rate = rng.choice((0, 0.3))
        self._latency_s = rng.choice((0.0005, 0.005, 0.1))
        kills = rng.choice((0, 1, 2, 4))
        self._kills = {(rng.choice(POINTS), rng.randint(1, 6)) for _ in range(kills)}
        self._passed = dict.fromkeys(POINTS, 0)
        self.outage_max_s = rng.choice((3.0, 600.0))
        self.events = sorted(self._event() for _ in range(rng.randint(0, 6)))

    def _event(self):
        kind = self.rng.choice(list(EVENTS))
        return (round(self.rng.uniform(0.5, HEALED_S - 2), 3), kind, self.rng.uniform(*EVENTS[kind]))

    def latency_s(self):
        return self._latency_s * self.rng.random()

    def redis_fate(self):
        return self._fate(REDIS_FATES, self._redis_rate)

    def kafka_fate(self):
        return self._fate(KAFKA_FATES, self._kafka_rate)

    def commit_fails(self):
        return not self.healed and self.rng.random() < self._commit_rate

    def _fate(self, fates, rate):
        if self.healed or self.rng.random() >= rate:
            return fates[0]
        return self.rng.choice(fates[1:])

    async def pass_point(self, point, process):
        """Kill the process here when its time has come."""
        if self.healed or point is None:
            return
        self._passed[point] += 1
        if (point, self._passed[point]) in self._kills:
            self.trace(process.name, f"killed at {point}")
            process.alive = False
            await forever()
