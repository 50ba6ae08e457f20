"""Redis against the log: every difference by name, and the log's word written where they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from router.errors import ConfigError
from router.feed import Feed
from router.replay import REPLAY_TOPICS, Content, Replay
from router.rules.horizon import REMEMBER_MS
from router.state import keys
from router.state.redis import Scripts, answered, checked
from router.topology import bootstrap
from topics.catalog import Topic

#: Keys that are read or written in one round trip.
_CHUNK = 500

Progress = Callable[[str, int, int], None]
"""What is done, how far, of how much."""


async def replay(
    kafka_url: str,
    prefix: str,
    counts: Mapping[str, int],
    progress: Progress,
    groups: Sequence[Sequence[Topic]] = REPLAY_TOPICS,
) -> Replay:
    """Read the log to its end, all of it or some topics, and work out what Redis should hold."""
    expected = Replay()
    for group in groups:
        topics = {prefix + topic.name: topic for topic in group}
        feed = Feed(bootstrap(kafka_url), {name: counts[name] for name in topics})
        what, done = "reading " + ", ".join(topic.name for topic in group), 0
        async for records in feed.records(follow=False):
            expected.feed(topics[records[0].topic], records)
            done += len(records)
            progress(what, done, feed.total)
        expected.next_group()
    expected.finish(time.time_ns() // 1_000_000)
    return expected


async def differences(
    expected: Replay, scripts: Scripts, progress: Progress, *, cells: str = "*"
) -> dict[str, str]:
    """Every key whose content is not what the log says, with what is wrong.

    ``cells``: of which cells it is told if there are keys that nothing in the log asks for.
    """
    wrong: dict[str, str] = {}
    done = 0
    for chunk in _chunks(expected.contents):
        pipeline = scripts.redis.pipeline(transaction=False)
        for key in chunk:
            _ask(pipeline, key, expected.contents[key])
        for key, held in zip(
            chunk, checked(await answered(pipeline.execute(raise_on_error=False))), strict=True
        ):
            fault = expected.fault(key, _plain(held))
            if fault is not None:
                wrong[key] = fault
        done += len(chunk)
        progress("comparing", done, len(expected.contents))
    for brand in sorted(expected.brands):
        async for name in scripts.redis.scan_iter(match=f"lr:{{{brand}/{cells}}}*", count=_CHUNK):
            key = name.decode()
            if key not in expected.contents and not keys.is_own(key):
                wrong[key] = "nothing in the log asks for it"
    return wrong


async def repair(expected: Replay, wrong: Iterable[str], scripts: Scripts, progress: Progress) -> None:
    """Write the log's word over the keys that differ."""
    names, done = list(wrong), 0
    for chunk in _chunks(names):
        pipeline = scripts.redis.pipeline(transaction=False)
        for key in chunk:
            pipeline.delete(key)
            if keys.is_capacity(key):
                pipeline.delete(keys.changes(keys.tag(key)))  # its ids hang on the mark among the capacities
            if key in expected.contents:
                _write(pipeline, key, expected.contents[key])
        checked(await answered(pipeline.execute(raise_on_error=False)))
        done += len(chunk)
        progress("writing", done, len(names))


async def refuse_running_workers(kafka_url: str, group: str) -> None:
    """Refuse to write while workers decide: they would decide on half of it.

    Raises:
        ConfigError: the consumer group has members.

    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(kafka_url))
    try:
        await admin.start()
        [response] = await admin.describe_consumer_groups([group])
        members = response.groups[0][5]
    except KafkaError:
        return  # a broker that cannot tell, as the embedded one; the help says to stop the workers
    finally:
        await admin.close()
    if members:
        raise ConfigError(f"{len(members)} workers of the group {group} are running: stop them first")


def _ask(pipeline: Any, key: str, content: Content) -> None:  # noqa: ANN401 - redis-py's pipeline has no useful type
    if isinstance(content, str):
        pipeline.get(key)
    elif keys.is_sorted_set(key):
        pipeline.zrange(key, 0, -1, withscores=True)
    else:
        pipeline.hgetall(key)


def _write(pipeline: Any, key: str, content: Content) -> None:  # noqa: ANN401 - same
    if isinstance(content, str):
        pipeline.set(key, content)
    elif keys.is_sorted_set(key):
        pipeline.zadd(key, content)
    else:
        pipeline.hset(key, mapping=content)
    if keys.expires(key):
        pipeline.pexpire(key, REMEMBER_MS)


def _plain(held: Any) -> Content | None:  # noqa: ANN401 - any answer
    if isinstance(held, list):
        return {member.decode(): int(score) for member, score in held}
    if isinstance(held, dict):
        return {name.decode(): value for name, value in held.items()}
    return held.decode() if held is not None else None


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
