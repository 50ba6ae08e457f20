"""A world for faults: its own topics, several workers of one group, and what a row promises of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from confluent_kafka import Producer

from router.demo.country import built_in_stores
from router.demo.roster import roster
from router.demo.worker_process import WorkerProcess
from router.state import keys
from tests.faults import hooks
from tests.world import World
from topics.catalog import GUIDES, LEADS, RESERVATIONS, STORES
from topics.codec import encode, key_of
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

BRAND = "shop"
LAT, LON = 31.2, 121.5
STORES_OF_1 = built_in_stores(1)
KILLED = 137
#: A killed worker's partitions are taken over after 3 s instead of 12: what takes long is tested elsewhere.
QUICK = {"broker_session_timeout": 3.0, "broker_heartbeat_interval": 0.5}


def now_ms():
    return time.time_ns() // 1_000_000


def lead(name, brand=BRAND, **fields):
    """A lead at the door of the shop."""
    common = {"member_id": f"m-{name}", "occurred_at_ms": now_ms(), "lat": LAT, "lon": LON}
    return Lead(brand=brand, lead_id=name, **{**common, **fields})


def leads(name, count, **fields):
    return [lead(f"{name}-{number}", **fields) for number in range(count)]


class FaultyWorker(WorkerProcess):
    """A worker of ``tests.faults.worker``; its exit status can be seen."""

    def __init__(self, environment):
        super().__init__(environment, (sys.executable, "-m", "tests.faults.worker", "-v"))

    def start(self, **faults):
        """Start with these faults and wait until it is ready."""
        self.launch(**faults)
        self.ready()

    def launch(self, **faults):
        """Start with these faults and do not wait."""
        self.environment = {
            **self.environment,
            hooks.VARIABLE: json.dumps({"settings": QUICK, **faults}),
        }
        super().start()

    def answers(self):
        """It has been started; ``ready`` waits for more."""
        return True

    def ready(self, within_s=60):
        """Wait until it says that it is ready to route."""
        deadline = time.monotonic() + within_s
        while not super().answers():
            assert self.running, f"the worker ended:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline, f"not ready in {within_s} s:\n{self.log[-3000:]}"

    def wait(self, within_s):
        """The exit status of a worker that ends by itself."""
        try:
            return self._keeper.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.log[-3000:]}") from None

    def terminate(self, within_s):
        """Ask it to stop; its status and the seconds it took."""
        begun = time.monotonic()
        self._signal(signal.SIGTERM)
        status = self.wait(within_s)
        return status, time.monotonic() - begun


class Scene(World):
    """``workers`` share a group; the first one is ``worker``. The roster is a shop, or the whole country."""

    def __init__(self, kafka_url, redis_url, prefix, *, workers=1, country=False):
        super().__init__(kafka_url, redis_url, prefix)
        self.workers = [FaultyWorker(self.environment) for _ in range(workers)]
        self.worker = self.workers[0]
        self.roster(roster(STORES_OF_1, 1, at_ms=now_ms()) if country else shop())

    def __exit__(self, *args):
        for worker in self.workers:
            worker.close()
        super().__exit__(*args)

    def said(self):
        """The end of every worker's log."""
        return "\n----\n".join(worker.log[-3000:] for worker in self.workers)

    def inputs(self):
        """How many inputs have been read so far."""
        return sum(len(self.records[topic.name]) for topic in (LEADS, RESERVATIONS))

    def one_assignment_each(self):
        """Every lead of the shop has one effective record, however often it was published."""
        return all(answer == records[0] for records in self.answers(BRAND).values() for answer in records)

    def claimed(self, name):
        """How many open attempts of leads of that name Redis holds."""
        held = self.redis.zrange(keys.open_attempts(f"{BRAND}/here"), 0, -1)
        return sum(f"|{name}-".encode() in member for member in held)

    def offset(self, topic):
        """The sum of the group's committed offsets in a topic."""
        return sum(at for (name, _), at in self.committed().items() if name == self.prefix + topic.name)

    def lag(self):
        return sum(
            value
            for worker in self.workers
            if worker.running
            for (name, *_), value in self.metrics(worker).items()
            if name == "consumer_lag_records"
        )

    def judge(self, inputs=None):
        """Wait until all is done; then the verifier judges the topics, and ``verify`` every key of Redis."""
        self.settle(inputs)
        for worker in self.workers:
            worker.stop()
        verified = subprocess.run(
            [sys.executable, "-m", "router", "verify"],
            env={**os.environ, **self.environment},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert verified.stdout.endswith("redis: as the log says\n"), verified.stdout[-2000:] + verified.stderr
        return self.check()

    def stream(self, *, rate_per_s):
        """Publish leads of the shop at a steady rate, through any outage of the broker; yields the leads."""
        return self.sending(LEADS, lambda number: [lead(f"n-{number}")], rate_per_s=rate_per_s)

    @contextmanager
    def sending(self, topic, events_of, *, rate_per_s):
        """Publish ``events_of(0)``, ``events_of(1)`` ... at a steady rate; yields what was sent so far."""
        events, ended = [], threading.Event()
        producer = Producer({**self.client, "enable.idempotence": True})

        def produce():
            begun, number = time.monotonic(), 0
            while not ended.wait(0.02):
                while number < (time.monotonic() - begun) * rate_per_s:
                    for event in events_of(number):
                        producer.produce(self.prefix + topic.name, encode(event), key_of(topic, event))
                        events.append(event)
                    number += 1
                producer.poll(0)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            yield events
        finally:
            ended.set()
            thread.join()
        assert producer.flush(90) == 0

    def frozen(self, seconds, patience_s=2.5):
        """Read on for so long; after a moment nothing more may be answered or committed."""
        self.read_for(patience_s)
        stood = self.committed(), self.audit.answered
        assert self.offset(LEADS) <= self.audit.answered, "acknowledged without an answer"
        self.read_for(seconds - patience_s)
        assert (self.committed(), self.audit.answered) == stood


def shop(brand=BRAND):
    """One store with two guides, a and b."""
    yield (
        STORES,
        Store(
            store_id="s1",
            brand=brand,
            version=1,
            kind="full_price",
            active=True,
            lat=LAT,
            lon=LON,
            market="here",
        ),
    )
    for name in ("a", "b"):
        yield (
            GUIDES,
            Guide(guide_id=name, brand=brand, store_id="s1", version=1, active=True, capacity=10_000),
        )
