"""What a guide's client gets: their own card in words, in two languages, and nothing about others."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.rules.actions import ENGLISH, NEXT, TEXTS, WHY, in_english, next_step
from router.web.answers import STATUS, SayableAction, reply
from router.web.cards import card, event, happened, snapshot
from tests.gateway_world import made
from topics.assignments import LIVE_STATES, Action, GuideRecord
from topics.responses import GuideAction

TOLD = {
    "lead_id", "kind", "seq", "attempt", "state", "at_ms", "respond_by_ms", "member_id", "store_id", "action",
}  # fmt: skip
either = pytest.mark.parametrize("language", ["zh", "en"])


@either
@pytest.mark.parametrize("state", LIVE_STATES)
def test_every_state_that_a_guide_holds_has_a_next_step_in_both_languages(state, language):
    step = next_step(state)
    told = card(made(state=state, action=None), language)["action"]
    assert told == {"code": step.code, "text": (in_english(step) if language == "en" else step).text}
    assert told["text"].isascii() == (language == "en") or "“" in told["text"]


def test_every_code_there_is_has_an_english_sentence():
    codes = {f"{what}.{why}" for what in TEXTS for why in WHY} | {step.code for step in NEXT.values()}
    assert codes == set(ENGLISH)
    assert in_english(Action(code="later", text="以后")) == Action(code="later", text="以后")


@given(st.text(max_size=200), st.sampled_from(LIVE_STATES))
def test_t01_a_card_tells_its_own_fields_alone(text, state):
    """Whatever the record holds: who it was taken from, its score, its cause, its turn."""
    told = card(made(state=state, score=0.5, queue="hq", action=Action(code="contact.near", text=text)), "zh")
    assert set(told) == TOLD
    assert "g" not in told.values()
    assert told["action"]["text"] == text


@given(st.text(max_size=200))
def test_f49_no_text_ends_an_event_or_begins_another(text):
    written = event("card", {"text": text, text: 1}, "1-0")
    assert written.count(b"\n") == 4
    assert b"\r" not in written
    lines = written.split(b"\n")
    assert [line.partition(b": ")[0] for line in lines] == [b"id", b"event", b"data", b"", b""]
    assert orjson.loads(lines[2].removeprefix(b"data: "))["text"] in {text, 1}


@either
def test_a_card_that_is_over_is_gone_with_its_last_state(language):
    over = happened(made(seq=3, state="expired"), "5-0", language)
    assert over.startswith(b"id: 5-0\nevent: gone\n")
    assert orjson.loads(over.splitlines()[2][6:]) == {
        "lead_id": "l",
        "kind": "lead",
        "seq": 3,
        "state": "expired",
    }


@either
def test_a_guide_who_is_paused_for_silence_is_told_until_when(language):
    """With the end of the offer that was one too many; an end that pauses nobody says nothing of it."""
    for until_ms, told in ((9_000, 9_000), (0, None)):
        record = GuideRecord(
            answered=0, offered=3, won=0, closed=0, silent=0, paused_until_ms=until_ms, at_ms=5
        )
        over = happened(made(seq=3, state="expired", at_ms=5, record=record), "5-0", language)
        assert orjson.loads(over.splitlines()[2][6:]).get("paused_until_ms") == told


def test_a_snapshot_tells_the_oldest_first():
    cards = [made("c", at_ms=2), made("b", at_ms=1), made("a", at_ms=2)]
    told = orjson.loads(snapshot(cards, "5-0", "zh").splitlines()[2][6:])["cards"]
    assert [each["lead_id"] for each in told] == ["b", "a", "c"]


@given(st.sampled_from([*STATUS, "new"]), st.text(max_size=9))
def test_t01_no_outcome_names_another_guide(outcome, name):
    said = reply({"outcome": outcome, "state": "accepted", "seq": 4, "guide_id": name, "name": name})
    assert set(said.body) <= {"outcome", "state", "seq"}
    assert said.status == STATUS.get(outcome, 404)
    assert said.outcome in STATUS


def test_a_guide_may_say_whatever_the_contract_has_but_delivered():
    assert {*SayableAction.__args__, "delivered"} == {*GuideAction.__args__, "grabbed"}
