"""A small world: stores and guides with little room, members, and what is sent in which order."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import orjson

from router.demo.malformed import MALFORMED
from topics.catalog import BINDINGS, GUIDES, LEADS, POLICIES, PRESENCE, RESERVATIONS, STORES, TOUCHES

#: When the run begins, epoch ms; the clock of Redis and of the broker.
BEGIN_MS = 1_790_000_000_000
#: Until when inputs come in.
SENT_S = 15.0
BRAND = "b"
#: A record that holds this makes the worker's code raise.
POISON = b"poison"
REASONS = dict.fromkeys(("not_json", "not_utf8", "nan"), "not_json") | {
    "tombstone": "tombstone",
    "duplicate_key": "duplicate_key",
}
#: More than five in one batch stop a worker for good, by design.
POISONS_MAX = 3
#: Two hard transfers of a member are within the budget, whatever happens: a third may be refused or not.
TRANSFERS_MAX = 2
BINDING_KINDS = ("bind", "bind", "bind", "unbind", "lend", "return")
BINDING_KINDS += ("transfer_started", "transfer_done", "transfer_vetoed")
TOUCH_KINDS = ("view", "chat", "message", "live")
#: Those that cost no time to refuse, with their reasons; the others are tried where decoding is tested.
SPOILS = [
    (REASONS.get(name, "invalid"), spoil)
    for name, spoil in MALFORMED
    if name not in {"too_deep", "too_large"}
]


#: Where offers end soon the leads have lived for so long before they come: their lives end soon as well.
QUICK_AGE_MS = 40_000
SLOW = """
[respond_s]
vip = 86400
repeat = 86400
new = 86400
prospect = 86400
"""
QUICK = """
life_max_s = 60
pause_s = 5
ladder = ["owner", "store", "near", "region", "hq"]
[respond_s]
vip = 2
repeat = 2
new = 2
prospect = 3
[limit_s]
accepted = 4
contacted = 4
visited = 4
[ladder_s]
near = 3
region = 2
hq = 3
"""


class Sent(NamedTuple):
    at_s: float
    topic: str
    key: bytes
    value: bytes | None
    name: str | None = None
    """``kind/id`` that the log must answer."""
    reason: str | None = None
    """Why this very record must be set aside."""


class World:
    """``roster`` is there before the first worker, ``sent`` comes while they run, in this order."""

    def __init__(self, seed):
        self.seed = seed
        self.rng = rng = Random(f"world/{seed}")  # noqa: S311 - a made-up world, not a secret
        self.partitions = rng.randint(1, 3)
        self.workers = rng.randint(1, 3)
        self._stores = [f"s{i}" for i in range(rng.randint(1, 4))]
        self._guides = {f"g{i}": rng.choice(self._stores) for i in range(rng.randint(1, 8))}
        self._members = [f"m{i}" for i in range(rng.randint(3, 12))]
        self._versions = dict.fromkeys(self._guides, 0)
        self._said = {}
        #: Of its own, so that all else of a seed stays as it is.
        self._elsewhere = Random(f"elsewhere/{seed}")  # noqa: S311 - same
        markets = rng.choice(((None,), ("上海",), ("上海", "北京", "x/y")))
        self.roster = [self._store(store, rng.choice(markets)) for store in self._stores]
        self.roster += [self._guide(guide) for guide in self._guides]
        #: In some worlds offers end soon, so that leads pass through many hands until they are closed.
        self._policy = rng.choice((QUICK, SLOW, SLOW))
        self._age_ms = QUICK_AGE_MS if self._policy is QUICK else 0
        self.roster.append(self._rules(1))
        sent = self._inputs(rng.randint(20, 60))
        sent += [self._binding(i) for i in range(rng.randint(0, 24))]
        sent += [self._change(i) for i in range(rng.randint(0, 20))]
        sent += [self._touch(i) for i in range(rng.randint(0, 20))]
        self.sent = sorted(sent, key=lambda one: one.at_s)

    def _at(self):
        return self.rng.uniform(0, SENT_S)

    def _store(self, store_id, market):
        lat, lon = 31 + self.rng.random() / 5, 121 + self.rng.random() / 5
        kind = self.rng.choice(("full_price", "full_price", "outlet", "franchise", "hq"))
        regions = {"region": self.rng.choice(("east", "east", "west"))}
        slots = regions | {"slots": {"fit": self.rng.randint(1, 3)}, "slot_minutes": 30}
        fields = slots | {
            "store_id": store_id,
            "version": 1,
            "lat": lat,
            "lon": lon,
            "kind": kind,
            "active": True,
        }
        return self._reference(STORES.name, store_id, fields | ({"market": market} if market else {}))

    def _guide(self, guide_id, at_s=0.0):
        self._versions[guide_id] += 1
        fields = {
            "guide_id": guide_id,
            "version": self._versions[guide_id],
            "store_id": self._guides[guide_id],
            "active": self.rng.random() < 0.9,
            "capacity": self.rng.randint(0, 4),
            "skills": {"suits": self.rng.randint(1, 5)},
        }
        return self._reference(GUIDES.name, guide_id, fields, at_s)

    def _change(self, number):
        """A guide's capacity, a guide's presence, or the policy changes."""
        at_s, what = self._at(), self.rng.choice(("guide", "presence", "policy"))
        guide_id = self.rng.choice(list(self._guides))
        if what == "guide":
            # versions must grow with time, so all that follows is dated after it
            at_s = max(at_s, 1.5 * self._versions[guide_id])
            return self._guide(guide_id, at_s)
        if what == "presence":
            status = self.rng.choice(("online", "offline"))
            fields = {"guide_id": guide_id, "status": status, "occurred_at_ms": BEGIN_MS + int(at_s * 1000)}
            return self._reference(PRESENCE.name, guide_id, fields, at_s)
        return self._rules(2 + number, at_s)

    def _rules(self, version, at_s=0.0):
        toml = f"shortlist_max = {self.rng.randint(1, 4)}\nsilent_max = 2\n{self._policy}"
        return self._reference(POLICIES.name, str(version), {"version": version, "toml": toml}, at_s)

    def _reference(self, topic, name, fields, at_s=0.0):
        return Sent(at_s, topic, f"{BRAND}/{name}".encode(), orjson.dumps({"brand": BRAND} | fields))

    def _binding(self, number):
        at_s, member_id = self._at(), self.rng.choice(self._members)
        kind = self.rng.choice(BINDING_KINDS if number < TRANSFERS_MAX else BINDING_KINDS[:6])
        fields = {"command_id": f"c{number}", "member_id": member_id, "brand": BRAND, "kind": kind}
        fields["occurred_at_ms"] = BEGIN_MS + self.rng.choice((number, 9))
        if kind not in {"unbind", "return", "transfer_vetoed"}:
            fields["to_guide_id"] = self.rng.choice(list(self._guides))
        return Sent(at_s, BINDINGS.name, member_id.encode(), orjson.dumps(fields))

    def _touch(self, number):
        at_s, member_id = self._at(), self.rng.choice(self._members)
        fields = {"touch_id": f"t{number}", "member_id": member_id, "brand": BRAND}
        fields |= {"occurred_at_ms": BEGIN_MS + self.rng.randint(0, 30), "kind": self.rng.choice(TOUCH_KINDS)}
        if self.rng.random() < 0.6:
            fields["guide_id"] = self.rng.choice(list(self._guides))
        if self.rng.random() < 0.6:
            fields["direction"] = self.rng.choice(("in", "out"))
        if self.rng.random() < 0.1:
            return Sent(at_s, TOUCHES.name, member_id.encode(), orjson.dumps(fields)[:-1], reason="not_json")
        return Sent(at_s, TOUCHES.name, member_id.encode(), orjson.dumps(fields))

    def _inputs(self, count):
        """Leads and reservations; among them repeats, changes, what is malformed, what makes it raise."""
        sent, good, poisons = [], [], 0
        for number in range(count):
            what = self.rng.choices(
                ("lead", "reservation", "repeat", "change", "malformed", "poison"), (50, 16, 12, 12, 8, 2)
            )[0]
            at_s, name = self._at(), f"{what[0]}{number}"
            if what in {"repeat", "change"} and good:
                before = self.rng.choice(good[-4:] if what == "change" else good)  # some change many times
                at_s = self.rng.uniform(before.at_s, SENT_S)
                sent.append((before if what == "repeat" else self._changed(before))._replace(at_s=at_s))
                continue
            topic = RESERVATIONS if what == "reservation" else LEADS
            fields = self._fields(topic, name, at_s)
            one = Sent(at_s, topic.name, fields["member_id"].encode(), orjson.dumps(fields))
            if what == "malformed":
                reason, spoil = self.rng.choice(SPOILS)
                one = one._replace(value=spoil(fields), reason=reason)
            elif what == "poison" and poisons < POISONS_MAX:
                poisons += 1
                one = one._replace(value=orjson.dumps(fields | {"sku": POISON.decode()}), reason="bug")
            else:
                one = one._replace(name=f"{topic.name[:-1]}/{name}")
                good.append(one)
            sent.append(one)
        return sent

    def _changed(self, before):
        """The same id with other content; a later version has one: nothing is known of a refused one."""
        value = orjson.loads(before.value)
        if before.topic == LEADS.name:
            return before._replace(value=orjson.dumps(value | {"value_fen": 1}))
        other = orjson.dumps(value | self._version())
        if (version := orjson.loads(other)["version"]) > 1:
            other = self._said.setdefault((before.name, version), other)
        return before._replace(value=other)

    def _version(self):
        """What another version of a reservation has of its own."""
        if self.rng.random() < 0.7:
            return {"version": 2, "needs": ["suits"]}
        status = self.rng.choice(("changed", "changed", "cancelled", "arrived", "no_show"))
        moved = {"starts_at_ms": self._visit_ms()}
        moved["ends_at_ms"] = moved["starts_at_ms"] + 3_600_000
        if self._elsewhere.random() < 0.5:
            moved["store_id"] = self._elsewhere.choice(self._stores)
        version = {"version": self.rng.randint(1, 4), "status": status}
        return version | (moved if status == "changed" else {})

    def _visit_ms(self):
        """About a day ahead, which is from when on a guide is needed."""
        return BEGIN_MS + 86_400_000 + self.rng.choice((-3_600_000, 1_000, 4_000, 8_000, 12_000))

    def _fields(self, topic, name, at_s):
        fields = {
            f"{topic.name[:-1]}_id": name,
            "member_id": self.rng.choice(self._members),
            "brand": BRAND,
            "occurred_at_ms": BEGIN_MS + int(at_s * 1000) - self._age_ms,
        }
        if topic is RESERVATIONS:
            store_id = self.rng.choice(self._stores)
            starts_at_ms = self._visit_ms()
            return (
                fields
                | {
                    "version": 1,
                    "store_id": store_id,
                    "starts_at_ms": starts_at_ms,
                    "ends_at_ms": starts_at_ms + 3_600_000,
                    "status": "booked",
                    "service": self.rng.choice(("fit", "fit", "talk")),
                }
                | ({"hold_until_ms": BEGIN_MS + 9_000} if self.rng.random() < 0.2 else {})
            )
        place = self.rng.choices(("position", "store", "nowhere"), (6, 3, 1))[0]
        if place == "position":
            fields |= {"lat": 31 + self.rng.random() / 5, "lon": 121 + self.rng.random() / 5}
        elif place == "store":
            fields["store_id"] = self.rng.choice(self._stores)
        if self.rng.random() < 0.4:
            fields["needs"] = [self.rng.choice(("suits", "suits", "hats"))]
        if self.rng.random() < 0.3:
            fields["price_zone"] = self.rng.choice(("full", "special"))
        return fields | {"tier": self.rng.choice(("vip", "new", "prospect"))}
