"""The contracts: every event family, whole, broken and hostile. Loops over the list of all topics."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from topics import fields
from topics.catalog import ASSIGNMENTS, GUIDES, LEADS, POLICIES, TOPICS
from topics.codec import (
    BAD_REASONS,
    MESSAGE_BYTES_MAX,
    BadEventError,
    decode,
    encode,
    key_of,
    partition_of,
)
from topics.commissions import Posting
from topics.fields import Period
from topics.leads import Lead
from topics.responses import Response
from topics.schemas import schemas

WITH_EVENTS = [topic for topic in TOPICS if topic.event is not None]
each_topic = pytest.mark.parametrize("topic", WITH_EVENTS, ids=lambda topic: topic.name)
#: What drawing a deep event takes is no promise of ours.
few = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))

LEAD = {"lead_id": "l1", "member_id": "m1", "brand": "b", "occurred_at_ms": 1}


def strings(kind: inspect.StrType) -> st.SearchStrategy[str]:
    if kind.pattern == fields.ID_PATTERN:
        return st.text("abcdefgXYZ0189_.@-", min_size=1, max_size=64)
    if kind.pattern:
        return st.from_regex(kind.pattern.replace(r"(?!\n)$", r"\Z"), alphabet=st.characters(codec="ascii"))
    return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 20, 20))


ANYTHING = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text("a:{}é", max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab:"), inner, max_size=2),
    max_leaves=4,
)

#: Values that a msgspec type allows, as plain JSON values.
STRATEGIES = {
    inspect.Metadata: lambda kind: values(kind.type),
    inspect.StructType: lambda kind: structs(kind.cls),
    inspect.StrType: strings,
    inspect.IntType: lambda kind: st.integers(
        -(2**63) if kind.ge is None else kind.ge, 2**63 if kind.le is None else kind.le
    ),
    inspect.FloatType: lambda kind: st.floats(kind.ge, kind.le, allow_nan=False, allow_infinity=False),
    inspect.BoolType: lambda _: st.booleans(),
    inspect.NoneType: lambda _: st.none(),
    inspect.LiteralType: lambda kind: st.sampled_from(kind.values),
    inspect.UnionType: lambda kind: st.one_of(*map(values, kind.types)),
    inspect.VarTupleType: lambda kind: st.lists(
        values(kind.item_type), min_size=kind.min_length or 0, max_size=3
    ),
    inspect.DictType: lambda kind: st.dictionaries(
        values(kind.key_type), values(kind.value_type), max_size=3
    ),
    inspect.AnyType: lambda _: ANYTHING,
}


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    return STRATEGIES[type(kind)](kind)


def mend_posting(event):
    first, second = event["lines"][:2]
    return event | {"lines": [first | {"fen": 7}, second | {"fen": -7}]}


#: Rules across fields: how a drawn event is made to keep them.
MENDS = {
    Lead: lambda event: event | dict.fromkeys(("lat", "lon"), event.get("lat")),
    Period: lambda span: span | {"from_ms": min(span.values()), "to_ms": max(span.values())},
    Posting: mend_posting,
}


@cache
def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Events of a type as plain JSON values."""
    known = {field.encode_name: field for field in inspect.type_info(cls).fields}
    drawn = st.fixed_dictionaries(
        {name: values(field.type) for name, field in known.items() if field.required},
        optional={name: values(field.type) for name, field in known.items() if not field.required},
    )
    return drawn.map(MENDS.get(cls, lambda event: event))


@cache
def events(topic) -> st.SearchStrategy[dict[str, Any]]:
    def whole(event):
        try:
            msgspec.convert(event, topic.event)
        except msgspec.ValidationError:
            return False
        return True

    return structs(topic.event).filter(whole)


def refused(event_type, value: bytes | None) -> BadEventError:
    with pytest.raises(BadEventError) as caught:
        decode(event_type, value)
    return caught.value


@each_topic
@few
@given(data=st.data())
def test_every_event_round_trips(topic, data):
    event = decode(topic.event, orjson.dumps(data.draw(events(topic))))
    assert decode(topic.event, encode(event)) == event


@each_topic
@few
@given(data=st.data())
def test_a_missing_required_field_is_named(topic, data):
    event = data.draw(events(topic))
    required = [field.encode_name for field in inspect.type_info(topic.event).fields if field.required]
    assert "brand" in required
    for name in required:
        error = refused(topic.event, orjson.dumps({k: v for k, v in event.items() if k != name}))
        assert error.reason == "invalid"
        assert f"`{name}`" in error.detail


@each_topic
@few
@given(data=st.data())
def test_a_field_of_the_wrong_type_is_named(topic, data):
    event = data.draw(events(topic))
    for name, hint in topic.event.__annotations__.items():
        wrong = 7 if "tuple" in str(hint) else [[7]]
        error = refused(topic.event, orjson.dumps(event | {name: wrong}))
        assert error.reason == "invalid"
        assert name in error.detail


@each_topic
@few
@given(data=st.data())
def test_f51_unknown_fields_are_ignored(topic, data):
    event = data.draw(events(topic))
    known = decode(topic.event, orjson.dumps(event))
    newer = event | {"of_next_year": {"brand": [1, {"a": None}]}}
    assert decode(topic.event, orjson.dumps(newer)) == known


@each_topic
def test_f52_a_tombstone_is_refused_as_one(topic):
    assert refused(topic.event, None).reason == "tombstone"


HOSTILE = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1.5",
    b"-0",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    rb'"\ud800"',
    rb'"\u0000"',
    b'{"brand":"b","brand":"b"}',
    b"[[[[",
    b"null",
    b"true",
    b"",
    b"\r\n",
    b'":":',
)


@each_topic
@few
@given(data=st.data())
def test_f47_whatever_comes_is_an_event_or_refused(topic, data):
    """Hostile pieces anywhere in a good message: what is taken is whole, all else is a BadEventError."""
    whole = orjson.dumps(data.draw(events(topic)))
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        tokens = [match.span() for match in re.finditer(rb'"[^"]*"|[0-9.]+|[{}\[\]:,]', whole)]
        if tokens and data.draw(st.booleans()):
            start, end = data.draw(st.sampled_from(tokens))
        whole = whole[:start] + data.draw(st.sampled_from(HOSTILE) | st.binary(max_size=8)) + whole[end:]
    try:
        event = decode(topic.event, whole)
    except BadEventError as error:
        refusal = error
    else:
        assert decode(topic.event, encode(event)) == event
        return
    assert refusal.reason in BAD_REASONS
    refusal.detail.encode()  # it goes into a header


@few
@given(st.binary(max_size=200))
def test_f47_arbitrary_bytes_are_refused(value):
    refused(Lead, value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not_json"),
        (b"lead", "not_json"),
        (b'\xef\xbb\xbf{"lead_id":"l1"}', "not_json"),
        (b'{"lead_id":"l\x001"}', "not_json"),
        (b'{"lead_id":"\xff"}', "not_json"),
        (rb'{"lead_id":"\ud800"}', "not_json"),
        (b'{"lat":NaN}', "not_json"),
        (b'{"lat":Infinity}', "not_json"),
        (b'{"lat":1e999}', "not_json"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
    ],
)
def test_f47_the_reason_says_what_is_wrong(text, reason):
    assert refused(Lead, text).reason == reason


@pytest.mark.parametrize("ms", [-1, 2**53 + 1, 2**64, 10**30, 1.5, "1", True, None])
def test_f47_a_time_is_an_integer_in_range(ms):
    error = refused(Lead, json.dumps(LEAD | {"occurred_at_ms": ms}).encode())
    assert error.reason == "invalid"
    assert "$.occurred_at_ms" in error.detail


@given(depth=st.integers(0, 300), wrap=st.sampled_from((b'{"x":%s}', b"[%s]", b'[{"y:":":"},%s]')))
def test_f47_a_duplicate_key_is_refused_at_any_depth(depth, wrap):
    inner, fine = b'{"a":1,"\\u0061":2}', b'{"a":1,"b":"a:"}'
    for _ in range(depth):
        inner, fine = wrap % inner, wrap % fine
    whole = orjson.dumps(LEAD)[:-1] + b',"extra":%s}'
    error = refused(Lead, whole % inner)
    assert error.reason == "duplicate_key"
    assert "'a'" in error.detail
    assert decode(Lead, whole % fine).lead_id == "l1"


def test_f47_a_duplicate_field_is_refused_even_with_the_same_value():
    assert refused(Lead, orjson.dumps(LEAD)[:-1] + b',"brand":"b"}').reason == "duplicate_key"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [1000, 1025, 10_000])
def test_f48_deep_nesting_is_refused(opening, depth):
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    error = refused(Lead, opening * depth + b"1" + closing * depth)
    assert error.reason in {"not_json", "invalid", "too_large"}


def test_f48_a_message_over_the_limit_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("it was read"))
    for size in (MESSAGE_BYTES_MAX + 1, 10_000_000):
        assert refused(Lead, b"1" * size).reason == "too_large"


def test_f48_a_message_at_the_limit_is_read():
    whole = orjson.dumps(LEAD)
    assert decode(Lead, whole + b" " * (MESSAGE_BYTES_MAX - len(whole))).lead_id == "l1"


def test_f48_huge_lists_are_refused_quickly():
    began = time.monotonic()
    for field in ("needs", "in_stock"):
        error = refused(Lead, orjson.dumps(LEAD | {field: ["x"] * 10_000}))
        assert error.reason == "invalid"
        assert field in error.detail
    refused(Lead, b"[" + b"1," * 30_000 + b"1]")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("bad", [*"{}:/| \n\t\0%*é中", "a\n", "\na", "", "x" * 65, "\u202ea"])
def test_f50_an_id_cannot_choose_where_a_key_goes(bad):
    for name in ("lead_id", "member_id", "brand", "store_id", "group_id"):
        error = refused(Lead, orjson.dumps(LEAD | {name: bad}))
        assert error.reason == "invalid"
        assert name in error.detail


@each_topic
def test_f50_every_id_is_checked(topic):
    """Whatever is called an id or names a key of the topic has the pattern of ids."""
    for name, hint in get_type_hints(topic.event, include_extras=True).items():
        if name == "brand" or name.endswith("_id"):
            assert repr(fields.Id) in repr(hint), name


def test_f50_ids_of_the_whole_alphabet_are_taken():
    for good in ("a", "A-Z_0.9@x", "x" * 64, "-", "."):
        assert decode(Lead, orjson.dumps(LEAD | {"lead_id": good})).lead_id == good


def test_what_the_fields_say_together_is_checked():
    both = refused(Lead, orjson.dumps(LEAD | {"lat": 1.0}))
    assert "lat, lon" in both.detail
    assignment = {"brand": "b", "lead_id": "l", "kind": "lead", "seq": 1, "attempt": 1, "at_ms": 1}
    assignment |= {"member_id": "m", "policy_version": 0, "cause": {"kind": "lead", "id": "l"}}
    for state in ("offered", "accepted", "declined", "expired", "won"):
        error = refused(ASSIGNMENTS.event, orjson.dumps(assignment | {"state": state}))
        assert "guide_id, store_id" in error.detail
    assert "queue" in refused(ASSIGNMENTS.event, orjson.dumps(assignment | {"state": "waiting"})).detail
    assert decode(ASSIGNMENTS.event, orjson.dumps(assignment | {"state": "closed"})).guide_id is None
    response = {"response_id": "r", "lead_id": "l", "member_id": "m", "brand": "b", "occurred_at_ms": 1}
    grabbed = refused(Response, orjson.dumps(response | {"action": "grabbed"}))
    assert grabbed.detail.startswith("guide_id: is required when action is grabbed")


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=6))
def test_m02_a_posting_that_does_not_sum_to_zero_is_refused(fens):
    def posting(fens):
        lines = [{"account": "a", "role": "r", "party": "p", "fen": fen} for fen in fens]
        event = {"posting_id": "p", "book_seq": 1, "brand": "b", "kind": "base", "period": "2026-11"}
        return orjson.dumps(event | {"occurred_at_ms": 1, "rule_version": "1", "inputs": {}, "lines": lines})

    if sum(fens):
        assert "lines: sum to" in refused(Posting, posting(fens)).detail
    assert len(decode(Posting, posting([*fens, -sum(fens)])).lines) == len(fens) + 1


MEMBER_KEYED = {
    *("leads", "reservations", "touches", "orders", "responses", "bindings", "assignments", "decisions"),
}


def test_the_topics_of_a_member_are_keyed_by_the_member():
    assert {topic.name for topic in TOPICS if topic.by_member} == MEMBER_KEYED
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


@each_topic
@few
@given(data=st.data())
def test_a_key_is_made_of_the_events_own_fields(topic, data):
    event = decode(topic.event, orjson.dumps(data.draw(events(topic))))
    assert key_of(topic, event).decode().split("/") == [str(getattr(event, name)) for name in topic.key]


def test_keys_are_as_written_down():
    assert key_of(LEADS, decode(Lead, orjson.dumps(LEAD))) == b"m1"
    guide = {"guide_id": "g", "brand": "b", "version": 3, "store_id": "s", "active": True}
    assert key_of(GUIDES, decode(GUIDES.event, orjson.dumps(guide))) == b"b/g"
    policy = {"brand": "b", "version": 3, "toml": ""}
    assert key_of(POLICIES, decode(POLICIES.event, orjson.dumps(policy))) == b"b/3"


def test_a_partition_is_the_crc_32_of_the_key():
    """The check value of CRC-32 (ISO-HDLC), and 0 for no bytes."""
    assert partition_of(b"123456789", 2**32) == 0xCBF43926
    assert partition_of(b"123456789", 16) == 0xCBF43926 % 16
    assert partition_of(b"", 8) == 0


SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


def test_the_published_schemas_are_current():
    """Otherwise: lead-router schemas docs/schemas."""
    assert {path.name: path.read_bytes() for path in SCHEMAS.iterdir()} == schemas()


@each_topic
def test_a_schema_requires_what_decoding_requires(topic):
    schema = json.loads(schemas()[f"{topic.name}.schema.json"])
    shape = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    known = inspect.type_info(topic.event).fields
    assert set(shape["required"]) == {field.encode_name for field in known if field.required}
    assert set(shape["properties"]) == {field.encode_name for field in known}
    assert shape.get("additionalProperties", True) is not False
