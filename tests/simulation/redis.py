"""A fake Redis behind the two things that ``Arbiter`` uses: ``Scripts.run`` and a few plain reads."""

from __future__ import annotations

import pickle
from functools import partial

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.errors import StateLostError
from router.state.redis import Call, answered, sort_error
from tests.simulation.keyspace import Keyspace
from tests.simulation.scripts import MARK, SCRIPTS

#: What ``socket_timeout`` is in the product.
TIMEOUT_S = 1.0
#: Crash points that lie before and after a script.
BEFORE = {"claim": "c3", "journey": "p1"}
AFTER = {"fix_cells": "c2", "claim": "c4", "journey": "p2", "inbox": "p3"}


class Server:
    """The one Redis of a run: its data, and the windows in which it refuses or hangs.

    A failover loses what was written since a moment before, and makes another server of it; a wipe leaves the
    server and nothing in it.
    """

    def __init__(self, loop, now_ms):
        self.loop = loop
        self.db = Keyspace(now_ms)
        self.down_until_s = self.hung_until_s = 0.0
        self.complaints = []
        self.identity = "server-0"
        self.lost = 0
        """How many scripts ran whose writes are gone."""
        self._newest = {}
        self._runs = 0

    def snapshot(self):
        """What a replica holds that hears nothing more from now on."""
        return self._runs, pickle.dumps(self.db.data)

    def fail_over(self, snapshot):
        """A replica takes over."""
        runs, data = snapshot
        self._lose(runs, pickle.loads(data))  # noqa: S301 - our own
        self.identity = f"server-{int(self.identity.split('-')[1]) + 1}"

    def wipe(self):
        """FLUSHALL."""
        self._lose(0, {})

    def _lose(self, runs, data):
        self.lost += self._runs - runs
        self.db.data = data
        self._newest.clear()

    def execute(self, call):
        """Run one script at once; a refusal is returned, as redis-py does in a pipeline."""
        args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in call.args]
        self._runs += 1
        try:
            answer = SCRIPTS[call.script](self.db, list(call.keys), args)
        except ResponseError as error:
            return error
        if call.script == "set_capacity":
            self._check_versions(call.keys[0])
        return answer

    def _check_versions(self, key):
        """A capacity that went back is soon told anew, so only here it is seen."""
        for guide, held in self.db.hgetall(key).items():
            if guide.startswith(MARK):
                continue
            version = int(held.split(b":")[0])
            if version < self._newest.get((key, guide), 0):
                self.complaints.append(f"{guide.decode()} in {key} went back to version {version}")
            self._newest[key, guide] = version


class Connection:
    """One worker's way to the server: everything that can go wrong on it goes wrong here.

    ``exchange`` runs commands and returns their answers, or fails: refused at once, lost on the way,
    executed but timed out (all of them or the first few), or timed out and executed later. A guard is asked
    when another server answers than the last time.
    """

    def __init__(self, server, faults, process, guard=None):
        self.server = server
        self._guard = guard
        self._connected_to = None
        self._loop = server.loop
        self._faults = faults
        self._process = process

    async def exchange(self, name, commands):
        await self._loop.sleep(self._faults.latency_s())
        fate = self._fate()
        if self._connected_to != self.server.identity and fate != "refused":
            if self._guard is not None:
                self._guard.check(self.server.identity)
            self._connected_to = self.server.identity
        if fate == "ok":
            answers = [command() for command in commands]
            await self._loop.sleep(self._faults.latency_s())
            return answers
        self._faults.trace(self._process.name, f"{name}: Redis call {fate}")
        if fate == "refused":
            raise RedisConnectionError(fate)
        if fate == "executed":
            for command in commands[: self._faults.rng.randint(1, len(commands))]:
                command()
        elif fate == "late":
            wait_s = max(self.server.hung_until_s - self._loop.now_s, 0)
            self._loop.spawn(self._later(commands), delay_s=wait_s + self._faults.rng.uniform(0.1, 8))
        await self._loop.sleep(TIMEOUT_S)
        raise RedisTimeoutError(fate)

    async def _later(self, commands):
        """Execute what was sent, unless the server that had received it is gone."""
        if self._connected_to == self.server.identity:
            for command in commands:
                command()

    def _fate(self):
        if self.server.down_until_s > self._loop.now_s:
            return "refused"
        if self.server.hung_until_s > self._loop.now_s:
            return "late"
        return self._faults.redis_fate()


class Scripts:
    """Stands where ``router.state.redis.Scripts`` does."""

    timeout_s = TIMEOUT_S

    def __init__(self, connection, faults, process, guard=None):
        self.redis = Reads(connection)
        self._connection = connection
        self._faults = faults
        self._process = process
        self._guard = guard

    async def run(self, calls):
        if not calls:
            return []
        if self._guard is not None and not self._guard.whole:
            raise StateLostError("not whole")
        script = calls[0].script
        await self._faults.pass_point(BEFORE.get(script), self._process)
        execute = self._connection.server.execute
        try:
            answers = await self._connection.exchange(
                script, [lambda call=call: execute(call) for call in calls]
            )
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise sort_error(error) from error
        await self._faults.pass_point(AFTER.get(script), self._process)
        for answer in answers:
            if isinstance(answer, ResponseError):
                error = sort_error(answer)
                if self._guard is not None and isinstance(error, StateLostError):
                    self._guard.distrust()
                raise error from answer
        return answers

    async def spread(self, script, head, items):
        if not items:
            return []
        keys = [key for item in items for key in item.keys]
        args = [*head, *(arg for item in items for arg in item.args)]
        [answer] = await self.run([Call(script, keys, args)])
        return [(range(len(items)), answer)]

    async def identities(self):
        server = self._connection.server
        return set(await answered(self._connection.exchange("INFO", [lambda: server.identity])))


class Reads:
    """Stands where the redis-py client does, as far as ``Arbiter`` asks it directly."""

    def __init__(self, connection):
        self._connection = connection
        self._db = connection.server.db

    async def time(self):
        [seconds, micros] = await self._ask("TIME", self._db.time)
        return int(seconds), int(micros)

    async def get(self, key):
        return await self._ask("GET", lambda: self._db.get(key))

    async def hget(self, key, field):
        return await self._ask("HGET", lambda: self._db.hget(key, field.encode()))

    async def hgetall(self, key):
        return await self._ask("HGETALL", lambda: dict(self._db.hgetall(key)))

    async def zadd(self, key, members):
        for member, score in members.items():
            await self._ask("ZADD", lambda member=member, score=score: self._db.zadd(key, member, score))

    def pipeline(self, *, transaction):
        assert not transaction
        return Pipeline(self._connection)

    async def _ask(self, name, command):
        [answer] = await self._connection.exchange(name, [command])
        return answer


class Pipeline:
    """Plain commands in one round trip."""

    def __init__(self, connection):
        self._connection = connection
        self._commands = []

    def zrange(self, key, first, last, **how):
        self._commands.append(lambda: self._connection.server.db.zrange(key, first, last, **how))

    def get(self, key):
        self._commands.append(lambda: self._connection.server.db.get(key))

    def hget(self, key, field):
        self._commands.append(lambda: self._connection.server.db.hget(key, field.encode()))

    def hgetall(self, key):
        self._commands.append(lambda: dict(self._connection.server.db.hgetall(key)))

    def zlexcount(self, key, low, high):
        low, high = low.removeprefix("[").encode(), high.removeprefix("(").encode()
        self._commands.append(lambda: self._connection.server.db.zlexcount(key, low, high))

    def zscore(self, key, member):
        self._commands.append(lambda: self._connection.server.db.hget(key, member.encode()))

    def zcount(self, key, low, high):
        assert high == "+inf"
        self._commands.append(
            lambda: sum(at >= low for _, at in self._connection.server.db.zrange(key, 0, -1, withscores=True))
        )

    def zrangebyscore(self, key, low, high, *, start, num, withscores):
        assert (low, start, withscores) == (0, 0, True)
        self._commands.append(
            lambda: [
                each
                for each in self._connection.server.db.zrange(key, 0, -1, withscores=True)
                if each[1] <= high
            ][:num]
        )

    def hsetnx(self, key, field, value):
        db = self._connection.server.db
        content = value if isinstance(value, bytes) else value.encode()

        def add():
            if db.hget(key, field.encode()) is None:
                db.hset(key, {field.encode(): content})

        self._commands.append(add)

    def zadd(self, key, members, *, gt=False):
        for member, score in members.items():
            self._commands.append(partial(self._zadd, key, member.encode(), score, gt=gt))

    def _zadd(self, key, member, score, *, gt):
        db = self._connection.server.db
        held = db.hgetall(key).get(member)
        if held is None or not gt or held < score:
            db.zadd(key, member, score)

    def zremrangebyrank(self, key, first, last):
        assert first == 0
        assert last < 0
        self._commands.append(partial(self._keep_the_highest, key, -1 - last))

    def _keep_the_highest(self, key, most):
        db = self._connection.server.db
        for member in db.zrange(key, 0, -1)[:-most]:
            db.zrem(key, member)

    def pexpire(self, key, ms):
        self._commands.append(lambda: self._connection.server.db.pexpire(key, ms))

    def zcard(self, key):
        self._commands.append(lambda: len(self._connection.server.db.hgetall(key)))

    def zrem(self, key, member):
        self._commands.append(lambda: self._connection.server.db.zrem(key, member.encode()))

    def delete(self, key):
        self._commands.append(lambda: self._connection.server.db.delete(key))

    def hset(self, key, field, value):
        fields = {field.encode(): value if isinstance(value, bytes) else str(value).encode()}
        self._commands.append(lambda: self._connection.server.db.hset(key, fields))

    async def execute(self, *, raise_on_error):
        assert not raise_on_error
        if not self._commands:
            return []
        return await self._connection.exchange("pipeline", self._commands)
