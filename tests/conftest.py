"""Every test that asks for ``parts`` runs twice: on the embedded parts and on real Kafka and Redis."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
from hypothesis import Phase, settings

from router.local import EmbeddedKafka, EmbeddedRedis, RedisProcess
from router.server_process import ServerProcess
from tests.browser import chromium
from tests.parts import MissingPartError, RealKafka, RealRedis

MISSING = pytest.StashKey[str]()
# a deadline would measure the machine, not what is promised
settings.register_profile("no deadline", deadline=None)
settings.register_profile("first failure", deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("no deadline")


@dataclass(frozen=True)
class TestParts:
    """The session's broker and a Redis of the test's own; both may be paused, killed and started."""

    __test__ = False
    kind: str
    """"embedded" or "real": what really runs."""
    kafka: ServerProcess
    redis: RedisProcess

    @property
    def kafka_url(self) -> str:
        return self.kafka.url

    @property
    def redis_url(self) -> str:
        return self.redis.url


@pytest.fixture(scope="session")
def embedded_kafka():
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def real_kafka(request):
    """None, with the reason in the stash, when this machine lacks a real part."""
    with ExitStack() as stack:
        try:
            stack.enter_context(RealRedis())
            kafka = stack.enter_context(RealKafka())
        except MissingPartError as missing:
            if os.environ.get("CI"):
                raise
            request.config.stash[MISSING] = str(missing)
            kafka = None
        yield kafka


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def parts(request):
    kafka = request.getfixturevalue(f"{request.param}_kafka")
    kind = request.param if kafka else "embedded"
    kafka = kafka or request.getfixturevalue("embedded_kafka")
    # A test may have left the shared broker paused or dead.
    kafka.resume()
    if not kafka.running:
        kafka.start()
    with RealRedis() if kind == "real" else EmbeddedRedis() as redis:
        yield TestParts(kind, kafka, redis)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Hear from a process which part it misses."""
    if missing := getattr(node, "workeroutput", {}).get("missing"):
        node.config.stash[MISSING] = missing


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["missing"] = session.config.stash.get(MISSING, None)


@pytest.fixture
def browser():
    try:
        chromium()
    except MissingPartError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture
def prefix():
    """A topic prefix that no other test has."""
    return f"t{uuid4().hex[:12]}."


def pytest_terminal_summary(terminalreporter, config):
    if missing := config.stash.get(MISSING, None):
        terminalreporter.write_line(
            f"REAL PARTS MISSING: {missing}; those tests ran on the embedded parts.", yellow=True
        )
