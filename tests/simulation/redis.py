"""A fake Redis behind the two things that ``Arbiter`` uses: ``Scripts.run`` and a few plain reads."""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.state.redis import sort_error
from tests.simulation.keyspace import Keyspace
from tests.simulation.scripts import SCRIPTS

#: What ``socket_timeout`` is in the product.
TIMEOUT_S = 1.0
#: Crash points that lie before and after a script.
BEFORE = {"claim": "c3", "journey": "p1"}
AFTER = {"fix_cells": "c2", "claim": "c4", "journey": "p2", "inbox": "p3"}


class Server:
    """The one Redis of a run: its data, and the windows in which it refuses or hangs.

    What it loses in a failover or with everything wiped will be here (``data`` is plain dicts, so the
    state of before the last k writes is a copy away), once the router can rebuild it from the log.
    """

    def __init__(self, loop, now_ms):
        self.loop = loop
        self.db = Keyspace(now_ms)
        self.down_until_s = self.hung_until_s = 0.0
        self.complaints = []
        self._newest = {}

    def execute(self, call):
        """Run one script at once; a refusal is returned, as redis-py does in a pipeline."""
        args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in call.args]
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
            version = int(held.split(b":")[0])
            if version < self._newest.get((key, guide), 0):
                self.complaints.append(f"{guide.decode()} in {key} went back to version {version}")
            self._newest[key, guide] = version


class Connection:
    """One worker's way to the server: everything that can go wrong on it goes wrong here.

    ``exchange`` runs commands and returns their answers, or fails: refused at once, lost on the way,
    executed but timed out (all of them or the first few), or timed out and executed later.
    """

    def __init__(self, server, faults, process):
        self.server = server
        self._loop = server.loop
        self._faults = faults
        self._process = process

    async def exchange(self, name, commands):
        await self._loop.sleep(self._faults.latency_s())
        fate = self._fate()
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
            self._loop.spawn(_later(commands), delay_s=wait_s + self._faults.rng.uniform(0.1, 8))
        await self._loop.sleep(TIMEOUT_S)
        raise RedisTimeoutError(fate)

    def _fate(self):
        if self.server.down_until_s > self._loop.now_s:
            return "refused"
        if self.server.hung_until_s > self._loop.now_s:
            return "late"
        return self._faults.redis_fate()


class Scripts:
    """Stands where ``router.state.redis.Scripts`` does."""

    def __init__(self, connection, faults, process):
        self.redis = Reads(connection)
        self._connection = connection
        self._faults = faults
        self._process = process

    async def run(self, calls):
        if not calls:
            return []
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
                raise sort_error(answer) from answer
        return answers


class Reads:
    """Stands where the redis-py client does, as far as ``Arbiter`` asks it directly."""

    def __init__(self, connection):
        self._connection = connection
        self._db = connection.server.db

    async def time(self):
        [seconds, micros] = await self._ask("TIME", self._db.time)
        return int(seconds), int(micros)

    async def exists(self, key):
        return int(await self._ask("EXISTS", lambda: self._db.exists(key)))

    async def set(self, key, value, *, nx):
        def write():
            if nx and self._db.exists(key):
                return None
            self._db.set(key, str(value).encode())
            return True

        return await self._ask("SET", write)

    def pipeline(self, *, transaction):
        assert not transaction
        return Pipeline(self._connection)

    async def _ask(self, name, command):
        [answer] = await self._connection.exchange(name, [command])
        return answer


class Pipeline:
    """Reads of many sorted sets in one round trip."""

    def __init__(self, connection):
        self._connection = connection
        self._commands = []

    def zrange(self, key, first, last, *, withscores):
        assert withscores
        self._commands.append(lambda: self._connection.server.db.zrange(key, first, last))

    async def execute(self, *, raise_on_error):
        assert not raise_on_error
        if not self._commands:
            return []
        return await self._connection.exchange("ZRANGE", self._commands)


async def _later(commands):
    for command in commands:
        command()
