"""Redis: the scripts, how they are called in batches, and which of its errors are outages."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.errors import ConfigError, EffectError, OutageError, StateLostError
from router.state import keys
from router.state.guard import Guard, ask_identity, identity_of

SCRIPTS = (
    "arrive",
    "bind",
    "brought",
    "changes",
    "claim",
    "clock",
    "fix_cells",
    "forget",
    "inbox",
    "journey",
    "leave",
    "mark",
    "meet",
    "members",
    "part",
    "post",
    "remind",
    "restore",
    "set_capacity",
    "touch",
    "waiters",
    "window",
)
#: What only the gateway asks, which no worker does.
GATEWAY_SCRIPTS = ("catch_up", "held_card", "moved")

#: Replies that pass by themselves or by an operator's hand, as redis-py names them ...
_TRANSIENT = (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisConnectionError,
    RedisTimeoutError,
    TryAgainError,
)
#: ... and the first words of those that it has no name for.
_TRANSIENT_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "NOTYET ", "OVERDUE ")
#: The first word of the scripts' own error that says what has to be done.
_LOST_WORD = "NOSTATE "
#: What redis-py raises; its cluster client has a family of its own.
_ERRORS = (RedisError, RedisClusterException)
#: The scheme of a cluster: any of its nodes tells about the others.
CLUSTER = "+cluster://"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script: its keys share one hash tag."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


@dataclass(frozen=True, slots=True)
class Item:
    """The part of a call that is about one thing; its keys share one hash tag."""

    keys: Sequence[str]
    args: Sequence[str | bytes | int] = ()


class Scripts:
    """A Redis, or a cluster, that runs batches of script calls in one round trip.

    Nothing is retried here: every script may be run again, and whoever holds the batch decides when. With a
    guard nothing is sent to a server that may have lost its state; the recovery itself goes without.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, guard: Guard | None = None) -> None:
        self._guard = guard
        self.timeout_s = timeout_s
        self.redis = _client(url, timeout_s, self._greet)
        source = files("router.state")
        self._text = {
            name: source.joinpath(f"{name}.lua").read_bytes() for name in (*SCRIPTS, *GATEWAY_SCRIPTS)
        }
        # computed here, since several batches run at once and one must not see another's half-loaded scripts
        self._sha = {name: sha1(text, usedforsecurity=False).hexdigest() for name, text in self._text.items()}

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run the calls in order, one round trip, and return their answers.

        Raises:
            StateLostError: a cell has lost its state, or the guard knows of it.
            OutageError: no answer in time, or one that says not now.
            EffectError: any other refusal.
        """
        if not calls:
            return []
        if self._guard is not None and not self._guard.whole:
            raise StateLostError("Redis waits for what the log says")
        try:
            answers = await self._attempt(calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                await self._load()
                answers = await self._attempt(calls)
            return checked(answers)
        except _ERRORS as error:
            await self._look_around(error)
            raise sort_error(error) from error
        except StateLostError:
            if self._guard is not None:
                self._guard.distrust()
            raise
        except OutageError as outage:
            await self._look_around(outage.__cause__)
            raise

    async def spread(
        self, script: str, head: Sequence[str | bytes | int], items: Sequence[Item]
    ) -> list[tuple[Sequence[int], Any]]:
        """Run a script over many items: in one call on a single Redis, in one per hash tag on a cluster.

        Returns the rows of each call's items, with the call's answer.
        """
        tags: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            tags.setdefault(keys.tag(item.keys[0]) if self.clustered else "", []).append(row)
        calls = [
            Call(
                script,
                [key for row in rows for key in items[row].keys],
                [*head, *(arg for row in rows for arg in items[row].args)],
            )
            for rows in tags.values()
        ]
        return list(zip(tags.values(), await self.run(calls), strict=True))

    @property
    def clustered(self) -> bool:
        """Whether the keys of one call must share their hash tag."""
        return isinstance(self.redis, RedisCluster)

    async def identities(self) -> set[str]:
        """Who the servers are that take writes, see ``router.state.guard``."""
        nodes: list[Any] = [self.redis]
        if isinstance(self.redis, RedisCluster):
            await answered(self.redis.initialize())
            nodes = self.redis.get_primaries()
        infos = [await answered(node.execute_command("INFO", "server", "replication")) for node in nodes]
        found = {identity_of(info) for info in infos}
        if None in found:
            raise OutageError("Redis: the server is a replica for now")
        return {identity for identity in found if identity is not None}

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def _attempt(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(
                "EVALSHA", self._sha[call.script], len(call.keys), *call.keys, *call.args
            )
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _load(self) -> None:
        for text in self._text.values():
            await self.redis.script_load(text)

    async def _greet(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's connection
        """Prepare a fresh connection, and find out who is behind it before anything else is sent."""
        # redis-py's asyncio client packs in Python, which is a tenth of a worker's time
        connection.pack_commands = _pack
        await connection.on_connect()
        if self._guard is not None and (identity := await ask_identity(connection)) is not None:
            self._guard.check(identity)

    async def _look_around(self, error: BaseException | None) -> None:
        """Connect anew where another server may have taken over: redis-py does so in its own retries only."""
        if self.clustered or isinstance(error, ReadOnlyError):
            await self.redis.aclose()


def _client(url: str, timeout_s: float, greet: Any) -> Redis | RedisCluster:  # noqa: ANN401 - a method
    # redis-py would retry time-outs ten times, which turns one hung call into a minute
    given: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }
    try:
        if CLUSTER not in url:
            return Redis.from_url(url, redis_connect_func=greet, **given)
        cluster = RedisCluster.from_url(url.replace(CLUSTER, "://"), require_full_coverage=False, **given)
    except ValueError as error:
        raise ConfigError(f"LEAD_ROUTER_REDIS_URL: {error}") from None
    # the cluster client takes no such argument, but hands all of these to every connection
    for kwargs in (cluster.connection_kwargs, *(node.connection_kwargs for node in cluster.startup_nodes)):
        kwargs["redis_connect_func"] = greet
    return cluster


def _pack(commands: Iterable[tuple[Any, ...]]) -> list[bytes]:
    return [b"".join([hiredis.pack_command(tuple(command)) for command in commands])]


async def answered(answer: Awaitable[T]) -> T:
    """Wait for an answer of redis-py; its errors become ours, see ``sort_error``."""
    try:
        return await answer
    except _ERRORS as error:
        raise sort_error(error) from error


def checked(answers: list[Any]) -> list[Any]:
    """The answers of a pipeline that does not raise by itself, which would hide an error's first word."""
    for answer in answers:
        if isinstance(answer, _ERRORS):
            raise sort_error(answer) from answer
    return answers


def sort_error(error: Exception) -> OutageError | EffectError:
    """Tell what passes by itself from what nobody foresaw."""
    if isinstance(error, AuthenticationError):  # a ConnectionError to redis-py, but waiting does not help
        return EffectError(f"Redis: {error}")
    if str(error).startswith(_LOST_WORD):
        return StateLostError(f"Redis: {error}")
    if isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_WORDS):
        return OutageError(f"Redis: {type(error).__name__}: {error}")
    return EffectError(f"Redis: {type(error).__name__}: {error}")
