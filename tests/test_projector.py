"""Inboxes and journeys from the log: the first record of a seq wins, whatever comes again or late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import OutageError
from router.inbox import Inbox, line
from router.local import EmbeddedRedis
from router.projector import Projector
from router.state import keys
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from scoring.build import build
from tests.parts import PATIENT_S
from topics.assignments import LIVE_STATES, Action, Assignment, Cause
from topics.codec import decode, encode
from topics.stores import Store


@dataclass(frozen=True)
class Record:
    value: bytes | None
    offset: int = 0
    topic: str = "assignments"
    partition: int = 0
    key: bytes | None = b"m"
    timestamp: int = 0


STORE = Store(store_id="s", brand="b", version=1, lat=31, lon=121, kind="full_price", active=True)


def record(seq=1, state="offered", guide_id="g", lead_id="l", at_ms=1000, **more):
    fields = {"brand": "b", "kind": "lead", "attempt": 1, "member_id": "m", "policy_version": 0}
    fields |= {"cause": Cause(kind="lead", id=lead_id), "store_id": "s" if guide_id else None} | more
    event = Assignment(
        lead_id=lead_id, seq=seq, state=state, guide_id=guide_id, at_ms=at_ms + seq, queue="hq", **fields
    )
    return Record(encode(event))


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


ROSTER = build([STORE], [], [], capacity_default=1)


class Desk:
    """A projector, and what people see."""

    def __init__(self, scripts):
        self.redis = scripts.redis
        self.restore_until_ms = 0
        self.projector = Projector(Arbiter(scripts), lambda: ROSTER, lambda: self.restore_until_ms)
        self.project = self.projector.project

    async def states(self, guide_id="g"):
        """The cards of a guide as (lead, seq, state), and all that the feed has seen."""
        cards = [
            (card.lead_id, card.seq, card.state) for card in await Inbox(self.redis, "b", guide_id).cards()
        ]
        entries = await self.redis.xrange(keys.feed("b", guide_id))
        return cards, [decode(Assignment, fields[b"record"]).seq for _, fields in entries]

    async def journey(self, lead_id="l"):
        return await self.redis.hgetall(keys.journey("b", "m", "lead", lead_id))


def tell(server, story):
    async def whole():
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        try:
            await scripts.redis.flushall()
            return await story(Desk(scripts))
        finally:
            await scripts.close()

    return asyncio.run(whole())


def test_a_card_arrives_and_leaves(server):
    async def story(desk):
        await desk.project([record(1, "offered")])
        assert await desk.states() == ([("l", 1, "offered")], [1])
        await desk.project([record(2, "accepted"), record(1, lead_id="k", at_ms=0)])
        assert await desk.states() == ([("k", 1, "offered"), ("l", 2, "accepted")], [1, 2, 1])
        await desk.project([record(3, "won")])
        assert await desk.states() == ([("k", 1, "offered")], [1, 2, 1, 3])
        assert sorted(await desk.journey()) == [b"1", b"2", b"3"]

    tell(server, story)


def test_f45_the_first_record_of_a_seq_wins_and_the_loser_does_nothing(server):
    async def story(desk):
        first, loser = record(1, guide_id="g"), replace(record(1, guide_id="h"), offset=1)
        for batch in ([first, loser], [loser], [first]):
            await desk.project(batch)
        assert await desk.states("g") == ([("l", 1, "offered")], [1])
        assert await desk.states("h") == ([], [])
        assert await desk.journey() == {b"1": b"0|" + first.value}

    tell(server, story)


def test_f04_a_repeat_mends_a_projection_that_was_cut_short(server):
    """The process died between the journey and the inbox."""

    async def story(desk):
        batch = [record(1), record(1, lead_id="k")]
        with pytest.MonkeyPatch.context() as patch:

            async def dies(_, __):
                raise OutageError

            patch.setattr(Arbiter, "deliver_cards", dies)
            with pytest.raises(OutageError):
                await desk.project(batch)
        assert await desk.states() == ([], [])
        assert await desk.journey()
        await desk.project([record(1, guide_id="h")])
        assert await desk.states("h") == ([], [])
        await desk.project(batch)
        assert await desk.states() == ([("k", 1, "offered"), ("l", 1, "offered")], [1, 1])

    tell(server, story)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            record, st.integers(1, 4), st.sampled_from(("offered", "seen", "declined")), st.sampled_from("gh")
        ),
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_f41_the_log_read_twice_leaves_what_reading_it_once_does(server, log, size):
    """In batches of any size; the highest seq that a guide has had is the guide's card."""
    log = [replace(each, offset=offset) for offset, each in enumerate(log)]
    first = {}
    for each in log:
        event = decode(Assignment, each.value)
        first.setdefault(event.seq, event)

    async def story(desk):
        for start in (*range(0, len(log), size), *range(0, len(log), size)):
            await desk.project(log[start : start + size])
        for guide_id in "gh":
            held = [event for event in first.values() if event.guide_id == guide_id]
            last = max(held, key=lambda event: event.seq, default=None)
            live = last is not None and last.state in LIVE_STATES
            assert (await desk.states(guide_id))[0] == ([("l", last.seq, last.state)] if live else [])
        journey = await desk.journey()
        assert {seq: value.partition(b"|")[2] for seq, value in journey.items()} == {
            b"%d" % seq: encode(event) for seq, event in first.items()
        }

    tell(server, story)


def test_who_waits_has_a_journey_and_no_card(server):
    async def story(desk):
        await desk.project([record(1, "waiting", None)])
        assert list(await desk.journey()) == [b"1"]
        assert await desk.redis.keys("*") == [keys.journey("b", "m", "lead", "l").encode()]

    tell(server, story)


def test_f47_what_is_no_assignment_comes_back_and_the_rest_is_projected(server):
    async def story(desk):
        bad = [Record(b"bad"), Record(None), Record(record(1).value.replace(b"offered", b"sold"))]
        refusals = await desk.project([bad[0], record(1), bad[1], bad[2], record(2, "seen")])
        assert [(refusal.record, refusal.reason) for refusal in refusals] == [
            *((bad[0], "not_json"), (bad[1], "tombstone"), (bad[2], "invalid")),
        ]
        assert (await desk.states())[0] == [("l", 2, "seen")]
        assert await desk.project([]) == []

    tell(server, story)


# --- the inbox on a terminal -------------------------------------------------------------------------------


def test_f57_no_card_falls_between_those_there_are_and_those_that_arrive(server):
    async def story(desk):
        inbox = Inbox(desk.redis, "b", "g")
        arriving = inbox.arriving(await inbox.position(), asyncio.Event())
        await desk.project([record(1)])
        assert (await anext(arriving)).seq == 1
        follow = asyncio.create_task(anext(arriving))
        while not follow.done():  # it waits on the server while the card is on its way
            await desk.project([record(2, "seen")])
            await asyncio.sleep(0.01)
        assert (await follow).seq == 2
        assert (await anext(inbox.arriving(b"0", asyncio.Event()))).seq == 1
        newest = inbox.arriving(await inbox.position(), asyncio.Event())
        await desk.project([record(3, "accepted")])
        assert (await anext(newest)).seq == 3

    tell(server, story)


def test_f20_an_inbox_without_a_server_says_so():
    async def story():
        scripts = Scripts("unix:///nowhere")
        inbox = Inbox(scripts.redis, "b", "g")
        for call in (inbox.cards(), inbox.position(), anext(inbox.arriving(b"$", asyncio.Event()))):
            with pytest.raises(OutageError):
                await call

    asyncio.run(story())


def test_f49_a_card_stays_on_its_line():
    text = "请\n在\r5分钟内\x1b[2J联系\u202e\u2028"
    card = decode(
        Assignment, record(action=Action(code="contact.near", text=text), respond_by_ms=60_000).value
    )
    shown = line(card)
    assert shown.isprintable()
    assert "l " in shown
    assert "by 00:01:00 UTC" in shown
