"""Bytes to events and back; every refusal names the field and the reason."""

from __future__ import annotations

import json
import zlib
from typing import Any, Literal, TypeVar, get_args

import msgspec
import orjson

from topics.catalog import Topic
from topics.fields import Event

#: A message over this size is refused before it is decoded.
MESSAGE_BYTES_MAX = 64 * 1024

BadReason = Literal["too_large", "tombstone", "not_json", "duplicate_key", "invalid"]
BAD_REASONS: tuple[BadReason, ...] = get_args(BadReason)

E = TypeVar("E", bound=Event)


class BadEventError(ValueError):
    """A message that is no event of its topic: ``reason`` is from a closed set, ``detail`` is for people."""

    def __init__(self, reason: BadReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: BadReason = reason
        self.detail = detail


def decode(event_type: type[E], value: bytes | None) -> E:
    """Decode and validate one message.

    Raises:
        BadEventError: with the field's path where one field is to blame.

    """
    if value is None:
        raise BadEventError("tombstone", "the message has no value")
    if len(value) > MESSAGE_BYTES_MAX:
        raise BadEventError("too_large", f"{len(value)} bytes, at most {MESSAGE_BYTES_MAX}")
    try:
        raw = orjson.loads(value)
        if value.count(b":") != _count_keys(raw):
            _refuse_duplicate_keys(value)
        return msgspec.convert(raw, event_type)
    except orjson.JSONDecodeError as error:
        raise BadEventError("not_json", str(error)) from None
    except msgspec.ValidationError as error:
        raise BadEventError("invalid", str(error)) from None
    except RecursionError:
        raise BadEventError("not_json", "nested too deeply") from None


def encode(event: Event) -> bytes:
    """Encode an event as JSON; fields at their defaults are left out."""
    return orjson.dumps(msgspec.to_builtins(event))


def digest_of(event: Event) -> str:
    """8 hex digits that hang on the content of an event and not on how its JSON was written."""
    return f"{zlib.crc32(msgspec.msgpack.encode(event)):08x}"


def key_of(topic: Topic, event: Event) -> bytes:
    """The message key of an event: its key fields joined by ``/``."""
    return "/".join([str(getattr(event, name)) for name in topic.key]).encode()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: CRC-32 modulo the count, as librdkafka's default partitioner has it."""
    return zlib.crc32(key) % partitions


def _count_keys(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """How many keys all the objects in a JSON value hold; each one stands before a colon of its own."""
    inner = value.values() if type(value) is dict else value
    count = len(value) if type(value) is dict else 0
    for each in inner if type(value) in {dict, list} else ():
        if type(each) in {dict, list}:  # asked here, since most values are neither and a call costs more
            count += _count_keys(each)
    return count


def _refuse_duplicate_keys(value: bytes) -> None:
    """Look closely where the colons do not match the keys: most often a text merely holds a colon."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadEventError("duplicate_key", f"{twice!r:.80} stands twice in one object")

    json.loads(value, object_pairs_hook=check)
