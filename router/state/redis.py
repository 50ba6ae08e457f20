"""Redis: the scripts, how they are called in batches, and which of its errors are outages."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.errors import ConfigError, EffectError, OutageError

SCRIPTS = ("bind", "claim", "fix_cells", "inbox", "journey", "set_capacity")

#: Replies that pass by themselves or by an operator's hand, as redis-py names them ...
_TRANSIENT = (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisConnectionError,
    RedisTimeoutError,
    TryAgainError,
)
#: ... and the first words of those that it has no name for; NOSTATE is the scripts' own.
_TRANSIENT_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "NOSTATE ")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script: its keys share one hash tag."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


class Scripts:
    """A Redis connection that runs batches of script calls in one round trip.

    Nothing is retried here: every script may be run again, and whoever holds the batch decides when.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        try:
            self.redis: Redis = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # redis-py would retry time-outs ten times, which turns one hung call into a minute
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        except ValueError as error:
            raise ConfigError(f"LEAD_ROUTER_REDIS_URL: {error}") from None
        source = files("router.state")
        self._text = {name: source.joinpath(f"{name}.lua").read_bytes() for name in SCRIPTS}
        # computed here, since several batches run at once and one must not see another's half-loaded scripts
        self._sha = {name: sha1(text, usedforsecurity=False).hexdigest() for name, text in self._text.items()}

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run the calls in order, one round trip, and return their answers.

        Raises:
            OutageError: no answer in time, or one that says not now.
            EffectError: any other refusal.
        """
        if not calls:
            return []
        try:
            answers = await self._attempt(calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                for text in self._text.values():
                    await self.redis.script_load(text)
                answers = await self._attempt(calls)
        except RedisError as error:
            raise sort_error(error) from error
        return checked(answers)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def _attempt(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(
                "EVALSHA", self._sha[call.script], len(call.keys), *call.keys, *call.args
            )
        return await pipeline.execute(raise_on_error=False)


async def answered(answer: Awaitable[T]) -> T:
    """Wait for an answer of redis-py; its errors become ours, see ``sort_error``."""
    try:
        return await answer
    except RedisError as error:
        raise sort_error(error) from error


def checked(answers: list[Any]) -> list[Any]:
    """The answers of a pipeline that does not raise by itself, which would hide an error's first word."""
    for answer in answers:
        if isinstance(answer, RedisError):
            raise sort_error(answer) from answer
    return answers


def sort_error(error: RedisError) -> OutageError | EffectError:
    """Tell what passes by itself from what nobody foresaw."""
    if isinstance(error, AuthenticationError):  # a ConnectionError to redis-py, but waiting does not help
        return EffectError(f"Redis: {error}")
    if isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_WORDS):
        return OutageError(f"Redis: {type(error).__name__}: {error}")
    return EffectError(f"Redis: {type(error).__name__}: {error}")
