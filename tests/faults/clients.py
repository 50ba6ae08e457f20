"""A seeded layer of faults around the clients: refused, executed but timed out, executed long afterwards.

redis: {seed, rate}: of every call, single or pipelined, whatever its type.
produce: {seed, rate}: of every batch that is handed to the Kafka producer.
commit: {seed, rate}: of every commit of offsets.
notes: a file that gets a line per fault: ``client fate names of the calls``.
fate: one fate instead of a random one; times: so many faults and no more.
"""

from __future__ import annotations

import asyncio
from functools import cache
from hashlib import sha1
from importlib.resources import files
from math import inf
from random import Random

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CommitFailedError, KafkaTimeoutError, NotEnoughReplicasError
from redis.asyncio.client import Pipeline, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

REFUSED, EXECUTED, LATE = "refused", "executed", "late"


class Layer:
    """Draws the fate of every call of one client."""

    def __init__(self, client, fates, spec, notes):
        self._client, self._notes = client, notes
        self._fates = [spec["fate"]] if "fate" in spec else fates
        self._rng = Random(f"{client}/{spec.get('seed', 0)}")  # noqa: S311 - a made-up world, not a secret
        self._rate = spec.get("rate", 1.0)
        self._left = spec.get("times", inf)
        self._met = set()

    def fate(self, *names):
        """The first call of a type is executed but times out; later ones meet the odds."""
        first = EXECUTED in self._fates and names not in self._met
        self._met.add(names)
        if self._left == 0 or (not first and self._rng.random() >= self._rate):
            return None
        self._left -= 1
        fate = EXECUTED if first else self._rng.choice(self._fates)
        if self._notes:
            line = f"{self._client} {fate} {' '.join(names)}\n"
            with open(self._notes, "ab", buffering=0) as file:  # noqa: PTH123 - one write, unbuffered
                file.write(line.encode())
        return fate


def install(spec):
    """Install the layers that the specification names."""
    notes = spec.get("notes")
    if "redis" in spec:
        _around_redis(Layer("redis", [REFUSED, EXECUTED, LATE], spec["redis"], notes))
    if "produce" in spec:
        _around_produce(Layer("produce", [REFUSED, EXECUTED], spec["produce"], notes))
    if "commit" in spec:
        _around_commit(Layer("commit", [REFUSED, EXECUTED], spec["commit"], notes))


@cache
def _scripts():
    """SHA of each script to its name."""
    folder = files("router.state")
    found = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    return {
        sha1(file.read_bytes(), usedforsecurity=False).hexdigest(): file.name.removesuffix(".lua")
        for file in found
    }


def _name(args):
    return _scripts().get(args[1], args[1]) if args[0] == "EVALSHA" else args[0]


def _around_redis(layer):
    single, pipelined = Redis._send_command_parse_response, Pipeline._execute_pipeline
    late = set()  # tasks that nobody else holds

    async def fated(names, call, again):
        fate = layer.fate(*names)
        if fate == REFUSED:
            raise RedisConnectionError("planted: refused")
        if fate == LATE:
            task = asyncio.create_task(_later(again))
            late.add(task)
            task.add_done_callback(late.discard)
            raise RedisTimeoutError("planted: timed out, and executed afterwards")
        answer = await call()
        if fate == EXECUTED:
            raise RedisTimeoutError("planted: executed, but timed out")
        return answer

    async def one(self, connection, command_name, *args, **options):
        async def again():
            fresh = await self.connection_pool.get_connection()
            try:
                await single(self, fresh, command_name, *args, **options)
            finally:
                await self.connection_pool.release(fresh)

        return await fated(
            [_name(args)], lambda: single(self, connection, command_name, *args, **options), again
        )

    async def many(self, connection, commands, raise_on_error):
        commands = list(commands)

        async def again():
            fresh = await self.connection_pool.get_connection()
            try:
                await pipelined(self, fresh, commands, raise_on_error=False)
            finally:
                await self.connection_pool.release(fresh)

        names = sorted({_name(args) for args, _ in commands})
        return await fated(names, lambda: pipelined(self, connection, commands, raise_on_error), again)

    Redis._send_command_parse_response = one
    Pipeline._execute_pipeline = many


async def _later(call):
    await asyncio.sleep(0.5)
    await call()


def _around_produce(layer):
    send_batch = AIOKafkaProducer.send_batch

    async def hooked(self, batch, topic, *, partition):
        fate = layer.fate(topic.rpartition(".")[2])
        if fate == REFUSED:
            raise NotEnoughReplicasError("planted")
        delivery = await send_batch(self, batch, topic, partition=partition)
        if fate == EXECUTED:
            await delivery
            raise KafkaTimeoutError("planted: executed, but timed out")
        return delivery

    AIOKafkaProducer.send_batch = hooked


def _around_commit(layer):
    commit = AIOKafkaConsumer.commit

    async def hooked(self, offsets=None):
        fate = layer.fate("commit")
        if fate is None:
            return await commit(self, offsets)
        if fate == EXECUTED:
            await commit(self, offsets)
        raise CommitFailedError("planted: the group has already rebalanced")

    AIOKafkaConsumer.commit = hooked
