"""Events that are too old or dated ahead are set aside, by the broker's time of their record."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.replay import Replay
from router.rules.horizon import AGE_MAX_MS, AHEAD_MAX_MS, REMEMBER_MS, untimely
from router.rules.intake import decoded, read
from topics.bindings import Binding
from topics.catalog import BINDINGS, LEADS, RESERVATIONS, RESPONSES, STREAM_RETENTION_MS, TOUCHES
from topics.codec import encode
from topics.leads import Lead
from topics.reservations import Reservation
from topics.responses import Response
from topics.touches import Touch

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
ABOUT = {"member_id": "m", "brand": "b"}
VISIT = {"starts_at_ms": NOW_MS + 60 * DAY_MS, "ends_at_ms": NOW_MS + 61 * DAY_MS, "store_id": "s"}
EVENTS = {
    LEADS: lambda at: Lead(lead_id="l", occurred_at_ms=at, **ABOUT),
    RESERVATIONS: lambda at: Reservation(
        reservation_id="r", version=1, status="booked", occurred_at_ms=at, **ABOUT, **VISIT
    ),
    RESPONSES: lambda at: Response(response_id="r", lead_id="l", action="seen", occurred_at_ms=at, **ABOUT),
    TOUCHES: lambda at: Touch(touch_id="t", kind="view", occurred_at_ms=at, **ABOUT),
    BINDINGS: lambda at: Binding(command_id="c", kind="bind", guide_id="g", occurred_at_ms=at, **ABOUT),
}


@dataclass(frozen=True)
class Record:
    value: bytes
    timestamp: int = NOW_MS
    topic: str = "t"
    partition: int = 0
    offset: int = 0
    key: bytes | None = b"m"


def intake(topic, record):
    """How many the intake lets in, and the reasons of what it does not."""
    found = read(topic, [record]) if topic in {LEADS, RESERVATIONS} else decoded(topic.event, [record])
    return len(found[0]), [refusal.reason for refusal in found[1]]


@pytest.mark.parametrize("topic", EVENTS, ids=lambda topic: topic.name)
@example(age_ms=AGE_MAX_MS)
@example(age_ms=AGE_MAX_MS + 1)
@example(age_ms=-AHEAD_MAX_MS)
@example(age_ms=-AHEAD_MAX_MS - 1)
@given(age_ms=st.integers(-40 * DAY_MS, 40 * DAY_MS))
def test_f46_what_is_older_than_the_horizon_or_a_day_ahead_is_set_aside(topic, age_ms):
    """Of every topic; for a reservation counts when it was said, not the visit two months ahead."""
    too_old = age_ms > STREAM_RETENTION_MS + DAY_MS and topic is not BINDINGS  # they are kept for ever
    reasons = ["future"] * (age_ms < -DAY_MS) + ["too_old"] * too_old
    record = Record(encode(EVENTS[topic](NOW_MS - age_ms)))
    assert intake(topic, record) == (1 - len(reasons), reasons)


@given(st.integers(0, 2 * NOW_MS), st.integers(0, 40 * DAY_MS), st.integers(-2 * DAY_MS, 20 * DAY_MS))
def test_an_id_is_remembered_until_its_repeats_are_too_old(occurred_at_ms, later_ms, age_ms):
    """Whoever is let in a second time is still known."""
    first_ms = max(occurred_at_ms + age_ms, 1)
    both = [untimely(occurred_at_ms, at_ms) for at_ms in (first_ms, first_ms + later_ms)]
    if both == [None, None]:
        assert later_ms <= REMEMBER_MS


@pytest.mark.parametrize("timestamp", [-1, 0])
def test_a_record_without_a_time_is_not_judged(timestamp):
    assert intake(LEADS, Record(encode(EVENTS[LEADS](NOW_MS)), timestamp)) == (1, [])


@pytest.mark.parametrize("at_ms", [NOW_MS - 16 * DAY_MS, NOW_MS + 2 * DAY_MS])
def test_what_was_set_aside_is_no_part_of_a_rebuilt_redis(at_ms):
    """Who reads the log again, whenever, decides as the worker did."""
    records = [Record(encode(EVENTS[TOUCHES](at_ms)))]
    replay = Replay()
    replay.feed(TOUCHES, records)
    assert not replay.contents
    replay.feed(TOUCHES, [Record(encode(EVENTS[TOUCHES](at_ms)), timestamp=at_ms)])
    assert replay.contents


def test_the_refusal_names_the_field_and_both_times():
    _, [refusal] = read(LEADS, [Record(encode(EVENTS[LEADS](NOW_MS - 16 * DAY_MS)))])
    assert refusal.detail.startswith(f"occurred_at_ms: {NOW_MS - 16 * DAY_MS} is more than 15 d before")
    assert str(NOW_MS) in refusal.detail
