"""Guides and members of a demo: what they do about an offer or a booking, seeded, each in their own time.

They accept and go on, decline, answer only when reminded, or say nothing; some go offline for a while.
Whoever booked comes, does not come, moves the visit or cancels it.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, NamedTuple

import orjson

from router.demo.load import Input
from router.demo.orders import Buying, nobody_buys
from topics.catalog import PRESENCE, RESERVATIONS, RESPONSES, Topic

#: Offers run out within seconds, so that all of it happens while somebody watches.
POLICY = """\
pause_s = 10

[respond_s]
vip = 3
repeat = 4
new = 5
prospect = 6

[ladder_s]
owner = 4
store = 4
near = 4
region = 4
"""
#: After so many offers of one lead somebody takes it.
_PATIENT = 4
#: What a guide does about an offer, and how often of a hundred.
_FATES = {"accepts": 58, "looks first": 12, "needs a reminder": 8, "declines": 12, "says nothing": 10}
#: What follows an acceptance, each after the one before, and how often of a hundred it goes that far.
_GOES_ON = (("contacted", 85), ("visited", 60), ("won", 50))
_LOST_OF_100 = 40
#: What becomes of a booking, and how often of a hundred.
_VISITS = {"booked": 45, "arrived": 20, "no_show": 15, "changed": 12, "cancelled": 8}
_DAY_MS = 86_400_000
#: So long a guide answers after the reminder, which comes half way.
_REMINDED_MS = (3_200, 3_500)
#: One guide in so many goes offline for a while, each second.
_OFFLINE_OF = 400
_OFFLINE_MS = (2_000, 6_000)


#: What a record is called, the first of these that it has.
_NAMES = ("order_id", "touch_id", "command_id", "lead_id", "reservation_id", "guide_id")


class _Deed(NamedTuple):
    at_ms: int
    number: int
    topic: Topic
    key: str
    event: dict[str, Any]


class Guides:
    """Tell it what is published, ask it what is due; the same seed and records give the same deeds.

    ``guide_ids`` are those who go offline now and then; a guide who is offline answers nothing. ``buying``
    tells what comes of a lead that is won.
    """

    def __init__(self, seed: int, brand: str, guide_ids: Sequence[str], buying: Buying = nobody_buys) -> None:
        self._seed, self._brand, self._guide_ids = seed, brand, guide_ids
        self._buying = buying
        self._rng = Random(f"offline/{seed}")  # noqa: S311 - a made-up world, not a secret
        self._plan: list[_Deed] = []
        self._made = 0
        self._seen: set[tuple[str, str, int]] = set()
        self._away: dict[str, int] = {}
        self._shift_ms = 0

    @property
    def idle(self) -> bool:
        """Whether nobody means to do anything more."""
        return not self._plan

    def look(self, value: bytes | None, now_ms: int) -> None:
        """Take a record of ``assignments``; the first of an offer is what its guide decides by."""
        card = orjson.loads(value or b"{}")
        offer = (card["kind"], card["lead_id"], card["attempt"])
        if card["state"] != "offered" or offer in self._seen:
            return
        self._seen.add(offer)
        rng = self._random("offer", *offer)
        (fate,) = rng.choices(list(_FATES), list(_FATES.values()))
        if card["attempt"] >= _PATIENT:
            fate = "accepts"
        elif self._away.get(card["guide_id"], 0) > now_ms:
            fate = "says nothing"
        at_ms = now_ms + rng.randint(200, 2_000)
        if fate == "declines":
            self._respond(card, "declined", at_ms)
        elif fate != "says nothing":
            if fate == "looks first":
                self._respond(card, "delivered", now_ms + 50)
                self._respond(card, "seen", at_ms - 100)
            self._accept(card, rng, now_ms + rng.randint(*_REMINDED_MS) if "reminder" in fate else at_ms)

    def booked(self, each: Input, now_ms: int) -> None:
        """Take an input as it is published; who booked a visit goes on to do something about it."""
        if each.topic is not RESERVATIONS or (("booked", each.event_id, 0) in self._seen):
            return
        try:
            event = orjson.loads(each.value or b"")
            starts_at_ms, ends_at_ms = event["starts_at_ms"] + 0, event["ends_at_ms"] + 0
        except (ValueError, KeyError, TypeError):
            return  # one of the broken ones
        self._seen.add(("booked", each.event_id, 0))
        rng = self._random("visit", each.event_id)
        (fate,) = rng.choices(list(_VISITS), list(_VISITS.values()))
        if fate == "booked":
            return
        at_ms = now_ms + rng.randint(1_000, 5_000)
        later = {"version": 2, "status": fate, "occurred_at_ms": at_ms}
        if fate == "changed":
            later |= {"starts_at_ms": starts_at_ms + _DAY_MS, "ends_at_ms": ends_at_ms + _DAY_MS}
        self._do(at_ms, RESERVATIONS, event["member_id"], event | later)

    def due(self, now_ms: int, *, open_for_business: bool = True) -> list[Input]:
        """What is done by now; ``open_for_business``: guides still go offline now and then."""
        if open_for_business:
            self._change_shifts(now_ms)
        out = []
        while self._plan and self._plan[0].at_ms <= now_ms:
            deed = heappop(self._plan)
            name = next(str(deed.event[key]) for key in _NAMES if deed.event.get(key))
            out.append(Input(deed.topic, deed.key.encode(), orjson.dumps(deed.event), name))
        return out

    def _accept(self, card: dict[str, Any], rng: Random, at_ms: int) -> None:
        self._respond(card, "accepted", at_ms)
        for action, of_100 in _GOES_ON:
            if rng.randrange(100) >= of_100:
                return
            at_ms += rng.randint(300, 1_500)
            lost = action == "won" and rng.randrange(100) < _LOST_OF_100
            self._respond(card, "lost" if lost else action, at_ms)
            if action == "won" and not lost:
                for planned in self._buying(card, at_ms):
                    self._do(planned.at_ms, planned.topic, card["member_id"], planned.event)

    def _respond(self, card: dict[str, Any], action: str, at_ms: int) -> None:
        event = {
            name: card[name] for name in ("lead_id", "member_id", "brand", "kind", "attempt", "guide_id")
        }
        name = f"g.{card['kind'][0]}.{card['lead_id']}.{card['attempt']}.{action}"
        event |= {"response_id": name, "action": action, "occurred_at_ms": at_ms}
        self._do(at_ms, RESPONSES, card["member_id"], event)

    def _change_shifts(self, now_ms: int) -> None:
        """Once a second some guides put their phones away, and take them up again later."""
        if now_ms < self._shift_ms + 1_000:
            return
        self._shift_ms = now_ms
        for guide_id in self._rng.sample(self._guide_ids, -(-len(self._guide_ids) // _OFFLINE_OF)):
            back_ms = now_ms + self._rng.randint(*_OFFLINE_MS)
            if self._away.get(guide_id, 0) < now_ms:
                self._away[guide_id] = back_ms
                for at_ms, status in ((now_ms, "offline"), (back_ms, "online")):
                    event = {
                        "guide_id": guide_id,
                        "brand": self._brand,
                        "status": status,
                        "occurred_at_ms": at_ms,
                    }
                    self._do(at_ms, PRESENCE, f"{self._brand}/{guide_id}", event)

    def _do(self, at_ms: int, topic: Topic, key: str, event: dict[str, Any]) -> None:
        self._made += 1
        heappush(self._plan, _Deed(at_ms, self._made, topic, key, event))

    def _random(self, *names: object) -> Random:
        return Random("/".join(map(str, (self._seed, *names))))  # noqa: S311 - a made-up world, not a secret
