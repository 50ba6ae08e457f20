"""Real servers for the tests: Apache Kafka out of Maven, and the machine's redis-server."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from router.local import RedisProcess
from router.server_process import ServerProcess

#: What a test that is not about time-outs gives Redis: the machine may be busy.
PATIENT_S = 30.0
POM = Path(__file__).parent / "kafka" / "pom.xml"
CACHE = Path(os.environ.get("LEAD_ROUTER_TEST_CACHE") or Path(__file__).parents[1] / ".cache") / "kafka"
REDIS_OLDEST = (7, 0)


class MissingPartError(Exception):
    """The machine cannot run a real part; the message says what it lacks."""


@functools.cache
def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetched once for each content of the pom."""
    jars = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        raise MissingPartError("no Maven (mvn) to fetch Apache Kafka with")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Renamed when complete: a fetch that was cut short is never taken for Kafka.
    fetching = Path(tempfile.mkdtemp(dir=CACHE))
    maven = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={fetching}",
    ]
    try:
        fetched = subprocess.run(maven, capture_output=True, text=True, timeout=600, check=False)
        if fetched.returncode:
            raise MissingPartError(f"Maven could not fetch Apache Kafka: {fetched.stdout.strip()[:300]}")
        with suppress(OSError):  # somebody else may have fetched them meanwhile
            fetching.rename(jars)
    finally:
        shutil.rmtree(fetching, ignore_errors=True)
    return jars


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, below the range from which the kernel gives ports to clients.

    Inside that range a client that keeps trying while its server is down can be given the server's own port.
    """
    sockets, rng = [], random.SystemRandom()
    while len(sockets) < count:
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", rng.randrange(15_000, 32_000)))
        except OSError:
            candidate.close()
        else:
            sockets.append(candidate)
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class RealKafka(ServerProcess):
    """One Apache Kafka node (KRaft, broker and controller); data and port outlast stop, kill and start."""

    name = "Apache Kafka"
    roles = "broker,controller"
    node_id = 1

    def __init__(self, copies: int = 1) -> None:
        self.copies = copies
        self.java = [
            "java",
            "-Xmx512m",
            # a third less to start; what runs for a minute is not worth compiling better
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{kafka_jars()}/*",
        ]
        if not shutil.which("java"):
            raise MissingPartError("no Java (java) to run Apache Kafka with")
        super().__init__()
        self.port, self.controller_port = free_ports(2)
        self.cluster_id = uuid4().hex[:22]
        self.configure()

    def configure(self) -> None:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        if "controller" in self.roles:
            listeners += f",CONTROLLER://127.0.0.1:{self.controller_port}"
        self.properties = self.folder / "server.properties"
        # The short broker session is for kill and start: until it ends the controller refuses the same node.
        self.properties.write_text(f"""
            process.roles={self.roles}
            node.id={self.node_id}
            controller.quorum.voters=1@127.0.0.1:{self.controller_port}
            listeners={listeners}
            controller.listener.names=CONTROLLER
            log.dirs={self.folder}/data
            auto.create.topics.enable=false
            offsets.topic.replication.factor={self.copies}
            offsets.topic.num.partitions=8
            transaction.state.log.replication.factor=1
            transaction.state.log.min.isr=1
            transaction.state.log.num.partitions=8
            group.initial.rebalance.delay.ms=0
            group.min.session.timeout.ms=1000
            broker.session.timeout.ms=3000
            broker.heartbeat.interval.ms=500
        """)

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not (self.folder / "data").exists():
            storage = [
                "kafka.tools.StorageTool",
                "format",
                "-t",
                self.cluster_id,
                "-c",
                str(self.properties),
            ]
            subprocess.run([*self.java, *storage], check=True, capture_output=True, timeout=60)
        super().start()

    def command(self) -> list[str]:
        return [*self.java, "kafka.Kafka", str(self.properties)]

    def answers(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            client = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0})
            return bool(client.list_topics(timeout=5).brokers)
        except KafkaException:
            return False


class SecondBroker(RealKafka):
    """A broker that joins another node's cluster."""

    roles = "broker"
    node_id = 2

    def __init__(self, first: RealKafka) -> None:
        self._first = first
        super().__init__(first.copies)

    def configure(self) -> None:
        self.controller_port, self.cluster_id = self._first.controller_port, self._first.cluster_id
        super().configure()


class RealRedis(RedisProcess):
    """The redis-server on PATH."""

    def __init__(self, *, appendonly: bool = False) -> None:
        binary = shutil.which("redis-server")
        if not binary:
            raise MissingPartError("no redis-server")
        super().__init__(binary, appendonly=appendonly)
        version = re.search(r"(\d+)\.(\d+)", self.version)
        if tuple(map(int, version.groups())) < REDIS_OLDEST:
            self.close()
            raise MissingPartError(f"{self.version} is older than 7.0")


class RealNode(RealRedis):
    """The redis-server on PATH with a port on the loopback address, for replicas and clusters."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        [self.port] = free_ports(1)
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("--port") + 1] = str(self.port)
        return [*command, "--bind", "127.0.0.1", *self.options]

    def cli(self, *words: object) -> str:
        """What the server answers to a command, as text."""
        command = [self.name.replace("redis-server", "redis-cli"), "-p", str(self.port), *map(str, words)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()


class RealCluster:
    """Three masters of a Redis cluster, which serve what they have when another one is away."""

    SLOTS = 16_384

    def __init__(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
        # ports of their own: those that Redis would choose lie in the kernel's range
        self.buses = free_ports(3)
        self.nodes = [
            RealNode(*options, "--cluster-node-timeout", "2000", "--cluster-port", str(bus))
            for bus in self.buses
        ]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            first, *_ = self.nodes
            bounds = [self.SLOTS * n // 3 for n in range(4)]
            for node, low, high in zip(self.nodes, bounds, bounds[1:], strict=False):
                node.cli("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
            for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
                first.cli("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            deadline = time.monotonic() + 30
            while not all(self._agrees(node) for node in self.nodes):
                assert time.monotonic() < deadline, first.cli("CLUSTER", "NODES")
                time.sleep(0.05)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def node_of(self, key: str) -> RealNode:
        """The node that a key lives on."""
        slot = int(self.nodes[0].cli("CLUSTER", "KEYSLOT", key))
        return self.nodes[min(2, slot * 3 // self.SLOTS)]

    @staticmethod
    def _agrees(node: RealNode) -> bool:
        info = node.cli("CLUSTER", "INFO")
        return "cluster_state:ok" in info and "cluster_known_nodes:3" in info


async def create_topics(kafka_url: str, partitions: dict[str, int]) -> None:
    """Create topics on a real broker, with their numbers of partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()])
        failed = [error for error in answer.topic_errors if error[1]]
        assert not failed, failed
    finally:
        await admin.close()
