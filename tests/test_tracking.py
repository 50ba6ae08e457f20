"""Bindings and touches from the log into Redis: what is refused, and several who write at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from router.errors import OutageError
from router.local import EmbeddedRedis
from router.state.members import Members
from router.state.redis import Scripts
from router.tracking import TRIES_MAX, Tracking
from tests.parts import PATIENT_S
from topics.bindings import Binding
from topics.codec import encode
from topics.touches import Touch

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


@dataclass(frozen=True)
class Record:
    value: bytes | None
    topic: str = "bindings"
    partition: int = 0
    offset: int = 0
    key: bytes = b"m"
    timestamp: int = 1


def binding(number, kind, guide_id=None, member_id="m", day=None):
    at_ms = (number if day is None else day) * DAY_MS
    about = {"member_id": member_id, "brand": "b", "occurred_at_ms": at_ms, "to_guide_id": guide_id}
    return Record(encode(Binding(command_id=f"c{number}", kind=kind, **about)), timestamp=at_ms)


def track(server, story):
    async def whole():
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        try:
            await scripts.redis.flushall()
            return await story(Tracking(Members(scripts)))
        finally:
            await scripts.close()

    return asyncio.run(whole())


async def owners(tracking, *members):
    standings, _ = await tracking.members.standings([("b", member_id) for member_id in members])
    return [each.owner for each in standings]


def test_what_is_bad_is_refused_and_the_rest_is_followed(server):
    records = [Record(b"bad"), binding(1, "bind", "g"), Record(None), binding(2, "bind", "h", "n")]
    records.append(Record(records[1].value.replace(b'"to_guide_id":"g"', b'"x":1')))
    touches = [Record(b"{"), touched("n", "view")]

    async def story(tracking):
        refusals = await tracking.bind(records)
        assert [(each.reason, each.record) for each in refusals] == [
            ("not_json", records[0]),
            ("tombstone", records[2]),
            ("invalid", records[4]),
        ]
        assert await owners(tracking, "m", "n", "nobody") == ["g", "h", ""]
        assert [each.reason for each in await tracking.touch(touches)] == ["not_json"]
        [standing], _ = await tracking.members.standings([("b", "n")])
        assert standing.last_in_ms == 5

    track(server, story)


def touched(member_id, kind):
    about = {"member_id": member_id, "brand": "b", "occurred_at_ms": 5}
    return Record(encode(Touch(touch_id="t", kind=kind, **about)), topic="touches")


def test_a_third_transfer_is_refused_each_time_it_comes_and_never_followed(server):
    """The dead letter of a batch that is done again comes again."""
    two = [binding(n, "transfer_done", f"g{n}") for n in (1, 2)]
    third = binding(3, "transfer_started", "g3"), binding(4, "transfer_done", "g3")

    async def story(tracking):
        assert await tracking.bind(two) == []
        for _ in range(2):
            refusals = await tracking.bind([*two, *third])
            assert [(each.reason, each.record) for each in refusals] == [
                ("transfer_budget", record) for record in third
            ]
            assert "c3" in refusals[0].detail
        assert await owners(tracking, "m") == ["g2"]
        assert await tracking.bind([binding(5, "transfer_done", "g5", day=91)]) == []
        assert await owners(tracking, "m") == ["g5"]

    track(server, story)


def test_of_many_who_write_at_once_nothing_is_lost(server):
    """As while a partition moves: what one has read is old when it writes."""

    async def story(tracking):
        said = [binding(n, "bind", f"g{n}", member) for n in range(6) for member in "mn"]
        await asyncio.gather(*(tracking.bind([each]) for each in said))
        contracts = await tracking.members.contracts([("b", "m"), ("b", "n")])
        assert [len(contract.facts) for _, contract in contracts] == [6, 6]
        assert await owners(tracking, "m", "n") == ["g5", "g5"]

    track(server, story)


def test_who_always_comes_too_late_gives_up_and_is_called_again(server, monkeypatch):
    tries = []

    async def story(tracking):
        async def late(_, contracts):
            tries.append(contracts)
            return [False] * len(contracts)

        monkeypatch.setattr(Members, "write", late)
        with pytest.raises(OutageError):
            await tracking.bind([binding(1, "bind", "g")])
        assert len(tries) == TRIES_MAX

    track(server, story)
