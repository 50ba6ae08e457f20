"""A tail without a network, one round at a time, and phones that keep what they are told."""

from __future__ import annotations

import asyncio

import orjson

from router.state import keys
from router.state.arbiter import Arbiter, Card
from router.web.channel import Channel
from router.web.reading import Reading, place
from router.web.tail import Tail
from topics.assignments import LIVE_STATES
from topics.codec import encode

GUIDE = ("b", "g")
LOG = "assignments"


class Phone:
    """One client: its cards, by the rules of the page; and what it was told, to find a card told twice."""

    def __init__(self):
        self.cards, self.after, self.told, self.channel = {}, "", [], None

    async def read(self):
        """Take what waits, while connected."""
        if self.channel is None:
            return []
        chunk, _ = await self.channel.take(0)
        names = []
        for text in chunk.decode().split("\n\n")[:-1]:
            found = dict(line.split(": ", 1) for line in text.split("\n"))
            name, data = found["event"], orjson.loads(found["data"])
            names.append(name)
            self.after = found.get("id", self.after)
            if name == "snapshot":
                self.cards = {each["lead_id"]: each["seq"] for each in data["cards"]}
            elif name == "card":
                assert self.after not in self.told, "told twice"
                self.told.append(self.after)
                self.cards[data["lead_id"]] = data["seq"]
            elif name == "gone":
                self.cards.pop(data["lead_id"], None)
            elif name == "reload":
                self.cards = {}
        return names


class Desk:
    """A tail whose rounds a test makes itself, and a projector."""

    def __init__(self, scripts):
        self.scripts, self.redis = scripts, scripts.redis
        self.tail = Tail(Reading(scripts, LOG))
        self.log, self.records = 0, []

    async def whole(self):
        await Arbiter(self.scripts).note_identities(LOG, {"server": 0})

    async def project(self, *records, guide=GUIDE):
        self.records += records
        cards = []
        for record in records:
            self.log += 1
            lead, live = f"{record.kind}|{record.lead_id}", record.state in LIVE_STATES
            cards.append(Card(*guide, lead, record.seq, self.log, encode(record), live))
        await Arbiter(self.scripts).deliver_cards(cards)

    async def rebuild(self):
        """What a worker does after everything was lost: the log once more, then it vouches for Redis."""
        records, self.records = self.records, []
        await self.project(*records)
        await self.whole()

    async def inbox(self):
        """The seq of each card that the guide holds."""
        held = await self.redis.hgetall(keys.inbox(*GUIDE))
        return {
            name.decode().partition("|")[2]: int(value.split(b"|")[0])
            for name, value in held.items()
            if not value.endswith(b"|")
        }

    async def look(self):
        joining, self.tail._joining = self.tail._joining, []
        await self.tail._round(await self.tail._moved(), joining)

    async def join(self, phone, guide=GUIDE):
        phone.channel = Channel("zh")
        waiting = asyncio.create_task(self.tail.join(guide, place(phone.after), phone.channel))
        await asyncio.sleep(0)
        await self.look()
        await waiting

    def leave(self, phone):
        self.tail.leave(GUIDE, phone.channel)
        phone.channel = None
