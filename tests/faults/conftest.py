"""Kinds of parts, and tests that wait side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import pytest

from router.local import EmbeddedKafka, EmbeddedRedis, RedisProcess
from router.server_process import ServerProcess
from tests.faults.scene import Scene
from tests.parts import RealKafka, RealRedis

#: More at a time, and two cores take longer over the starting than the tests over the waiting.
THREADS = 5
RUNS = pytest.StashKey[dict]()


@dataclass(frozen=True)
class Kind:
    """One kind of parts; ``kafka`` is shared by everybody and stays up, all else is made anew."""

    name: str
    """"embedded" or "real": what really runs."""
    kafka: ServerProcess
    own_kafka: type[ServerProcess]
    redis: type[RedisProcess]

    def scene(self, redis, kafka=None, **options):
        return Scene((kafka or self.kafka).url, redis.url, f"f{uuid4().hex[:12]}.", **options)


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def kind(request):
    if request.param == "real" and (kafka := request.getfixturevalue("real_kafka")):
        return Kind("real", kafka, RealKafka, RealRedis)
    return Kind("embedded", request.getfixturevalue("embedded_kafka"), EmbeddedKafka, EmbeddedRedis)


def pytest_pyfunc_call(pyfuncitem):
    """Run the selected ``beside`` tests of one kind of parts together; each then tells its own end.

    They ask for ``kind`` alone and share nothing but its broker, so that an outage of a minute in one of
    them is no minute of the suite's for each. Nothing else runs meanwhile.
    """
    if pyfuncitem.get_closest_marker("beside") is None:
        return None
    runs = pyfuncitem.session.stash.setdefault(RUNS, {})
    if pyfuncitem.nodeid not in runs:
        kind = pyfuncitem.funcargs["kind"]
        together = [
            item
            for item in pyfuncitem.session.items
            if item.get_closest_marker("beside")
            and item.callspec.params["kind"] == pyfuncitem.callspec.params["kind"]
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            for item in sorted(together, key=_lasts_s, reverse=True):
                others = {name: value for name, value in item.callspec.params.items() if name != "kind"}
                runs[item.nodeid] = pool.submit(item.obj, kind, **others)
    runs[pyfuncitem.nodeid].result()
    return True


def _lasts_s(item):
    return item.get_closest_marker("beside").kwargs["lasts_s"]
