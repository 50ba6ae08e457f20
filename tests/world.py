"""A running router for tests: one worker, what goes in, and what the raw topics say came of it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import orjson
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from router.audit import Audit
from router.audit.audit import TOPICS as AUDITED
from router.demo.simulate import publish_roster
from router.demo.worker_process import WorkerProcess
from router.state.redis import CLUSTER
from router.topology import ensure_topics
from tests import verifier
from topics.assignments import LIVE_STATES
from topics.catalog import (
    ASSIGNMENTS,
    BINDINGS,
    DECISIONS,
    LEADS,
    LEDGER_COMMANDS,
    ORDERS,
    RESERVATIONS,
    RESPONSES,
    TOUCHES,
)
from topics.codec import encode, key_of

PARTITIONS = 4
INPUTS = (LEADS, RESERVATIONS)
WORK = (*INPUTS, RESPONSES, BINDINGS, TOUCHES, ORDERS, LEDGER_COMMANDS, ASSIGNMENTS)
PATIENCE_S = 75


class World:
    """Its topics and its consumer group carry the prefix; the broker and the Redis belong to the caller."""

    def __init__(self, kafka_url, redis_url, prefix):
        self.kafka_url, self.redis_url, self.prefix = kafka_url, redis_url, prefix
        self.environment = {
            "LEAD_ROUTER_KAFKA_URL": kafka_url,
            "LEAD_ROUTER_REDIS_URL": redis_url,
            "LEAD_ROUTER_TOPIC_PREFIX": prefix,
            "LEAD_ROUTER_GROUP": prefix,
            "LEAD_ROUTER_PARTITIONS": str(PARTITIONS),
        }
        # verbose: when a worker does not start, its log has to say why
        verbose = (sys.executable, "-m", "router", "worker", "-v")
        self.worker = WorkerProcess(self.environment, verbose)
        client = redis.RedisCluster if CLUSTER in redis_url else redis.Redis
        self.redis = client.from_url(redis_url.replace(CLUSTER, "://"))
        self.audit = Audit()
        self.records = defaultdict(list)
        self._logged, self._logged_to = defaultdict(dict), 0
        counts = asyncio.run(ensure_topics(kafka_url, prefix, PARTITIONS))
        self.client = client = {"bootstrap.servers": kafka_url.removeprefix("kafka://"), "log_level": 0}
        # what commits nothing waits for no coordinator when it closes, which may be gone
        reads = {**client, "enable.auto.commit": False}
        self._group = Consumer({**reads, "group.id": prefix})
        # what is published together arrives together, however slow the machine: a flush does not wait for it
        self._producer = Producer({**client, "linger.ms": 500})
        self._reader = Consumer(
            {**reads, "group.id": f"{prefix}reader", "fetch.wait.max.ms": self._patience_ms()}
        )
        names = {prefix + name for name in (*AUDITED, DECISIONS.name, RESPONSES.name)}
        self._reader.assign([TopicPartition(name, part, 0) for name in names for part in range(counts[name])])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.worker.close()
        self._reader.close()
        self._group.close()
        self.redis.close()

    def _patience_ms(self):
        """How long the broker may hold a fetch open: the embedded one does not wake a reader that waits."""
        return 20 if self._group.list_topics(timeout=30).cluster_id.startswith("mockCluster") else 500

    # -- in

    def roster(self, events):
        """Publish stores, guides and presence."""
        asyncio.run(publish_roster(self.kafka_url, self.prefix, events))

    def publish(self, topic, *events):
        """Publish events, or ``(key, raw bytes or None)``; return where each went: (partition, offset)."""
        places = [None] * len(events)
        for index, event in enumerate(events):
            key, value = event if isinstance(event, tuple) else (key_of(topic, event), encode(event))

            def note(error, message, index=index):
                assert error is None, error
                places[index] = (message.partition(), message.offset())

            self._producer.produce(self.prefix + topic.name, value, key, on_delivery=note)
        assert self._producer.flush(30) == 0
        return places

    @contextmanager
    def load(self, *, leads, rate_per_s):
        """Let ``lead-router simulate`` run beside us."""
        command = [sys.executable, "-m", "router", "simulate", "--no-roster"]
        sizes = ["--leads", str(leads), "--rate", str(rate_per_s)]
        with subprocess.Popen(
            [*command, *sizes], env={**os.environ, **self.environment}, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def sent(self, process):
        """How many inputs ``simulate`` says that it has sent, once it has ended."""
        said, _ = process.communicate(timeout=PATIENCE_S)
        return int(re.search(r"sent ([\d,]+) records", said)[1].replace(",", ""))

    # -- out

    def read(self):
        """Take in what has arrived in the raw topics."""
        for message in self._reader.consume(10_000, timeout=0.02):
            assert message.error() is None, message.error()
            topic = message.topic().removeprefix(self.prefix)
            self.records[topic].append(message)
            if topic in AUDITED:
                place = (topic, message.partition(), message.offset())
                content = (message.key(), message.value(), message.headers() or ())
                self.audit.feed(*place, *content, message.timestamp()[1])

    def until(self, condition, what, within_s=PATIENCE_S):
        """Read on until the condition holds."""
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            self.read()
            assert time.monotonic() < deadline, f"in {within_s} s not {what}; the worker said:\n{self.said()}"
        return found

    def read_for(self, seconds):
        """Read on for a time that is itself what the test is about."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()

    def said(self):
        """The end of the worker's log."""
        return self.worker.log[-3000:]

    def events(self, topic, brand):
        """The JSON objects of a topic that are of a brand, in the order of each partition."""
        found = (orjson.loads(message.value()) for message in self.records[topic.name])
        return [event for event in found if event["brand"] == brand]

    def answers(self, brand):
        """``(kind, id)`` to its assignments records."""
        answers = defaultdict(list)
        for event in self.events(ASSIGNMENTS, brand):
            answers[event["kind"], event["lead_id"]].append(event)
        return answers

    def answer(self, brand, *ids, kind="lead"):
        """The first answers to these ids, once all are there."""
        wanted = [(kind, name) for name in ids]
        self.until(lambda: self.answers(brand).keys() >= set(wanted), f"answered: {ids}")
        answers = self.answers(brand)
        return [answers[each][0] for each in wanted]

    def committed(self):
        """The committed offsets of the work topics, as the broker has them."""
        names = [self.prefix + topic.name for topic in WORK]
        parts = [TopicPartition(name, part) for name in names for part in range(PARTITIONS)]
        found = self._group.committed(parts, timeout=10)
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    def metrics(self, worker=None):
        """A worker's samples: ``(name, values by the names of their labels …)`` to value."""
        port = (worker or self.worker).port
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return {
            (
                sample.name.removeprefix("leadrouter_"),
                *(sample.labels[label] for label in sorted(sample.labels)),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    # -- judged

    def settle(self, inputs=None):
        """Wait until every input is answered and every answer stands in its inbox and journey."""
        if inputs is not None:
            self.until(
                lambda: self.audit.answered >= inputs and not self.audit.unanswered,
                f"answered: {inputs} inputs",
            )
        self.until(lambda: self.inboxes() == self.live(), "inboxes like the log")
        self.until(lambda: self.journeys() == self.logged(), "journeys like the log")

    def report(self):
        """Audit the raw topics from their start with the independent verifier."""
        return asyncio.run(verifier.verify(self.kafka_url.removeprefix("kafka://"), self.prefix))

    def check(self):
        """The same, and nothing may be wrong."""
        report = self.report()
        assert report.ok, report.problems
        return report

    def logged(self):
        """By lead, what the log says happened: of each seq the first record."""
        for message in self.records[ASSIGNMENTS.name][self._logged_to :]:
            event = orjson.loads(message.value())
            lead = (event["brand"], event["kind"], event["lead_id"])
            self._logged[lead].setdefault(event["seq"], message.value())
        self._logged_to = len(self.records[ASSIGNMENTS.name])
        return dict(self._logged)

    def live(self):
        """By guide and lead, the record by which the guide holds the lead, as the log says."""
        held = {}
        for (brand, kind, lead_id), journey in self.logged().items():
            event = orjson.loads(record := journey[max(journey)])
            if event["state"] in LIVE_STATES:
                held[brand, event["guide_id"], kind, lead_id] = record
        return held

    def inboxes(self):
        """The same, as the guides see it."""
        held = {}
        for key in self.redis.scan_iter("lr:*:inbox:*", count=1000):
            brand, guide_id = re.match(r"lr:{(.*)/g\d+}:inbox:(.*)", key.decode()).groups()
            for lead, value in self.redis.hgetall(key).items():
                if record := value.split(b"|", 2)[2]:
                    held[brand, guide_id, *lead.decode().split("|")] = record
        return held

    def journeys(self):
        """By lead, what Redis says happened."""
        found = {}
        for key in self.redis.scan_iter("lr:*:journey:*", count=1000):
            lead = re.match(r"lr:{(.*)/m\d+}:journey:(.*):(.*)", key.decode()).groups()
            records = self.redis.hgetall(key).items()
            # beside the records stand the outcomes of answers
            found[lead] = {int(seq): value.partition(b"|")[2] for seq, value in records if seq.isdigit()}
        return found


def told(world, command, status):
    """What a command says about a world's topics and Redis."""
    run = subprocess.run(
        [sys.executable, "-m", "router", command],
        env={**os.environ, **world.environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert run.returncode == status, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout
