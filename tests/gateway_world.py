"""A gateway on embedded parts, what its guides see, and a stand-in for the router behind it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
from aiohttp import ClientSession, CookieJar
from aiokafka import AIOKafkaConsumer, TopicPartition

from router.config import Settings
from router.state import keys
from router.state.arbiter import Arbiter, Card
from router.state.redis import Scripts
from router.web import gateway
from router.web.tokens import sign
from topics.assignments import LIVE_STATES, Action, Assignment, Cause
from topics.catalog import ASSIGNMENTS, RESPONSES
from topics.codec import decode, encode
from topics.responses import Response

SECRET = "first-secret-of-32-bytes-or-more!"
BRAND = "b"


def token(guide="g", brand=BRAND, *, secret=SECRET, since_s=0, life_s=600, **where):
    return sign((secret,), brand, guide, int(time.time()) + since_s, life_s, **where)


def asked(guide="g", **more):
    """The headers of a tool that calls for a guide."""
    return {"Authorization": f"Bearer {token(guide, **more)}", "X-Lead-Router": "1"}


def made(lead_id="l", seq=1, state="offered", guide_id="g", **more):
    """An assignment record as the router makes them: from the answer on without an action."""
    now_ms = time.time_ns() // 1_000_000
    common = {
        "brand": BRAND, "kind": "lead", "attempt": 1, "member_id": f"m-{lead_id}", "policy_version": 0,
        "cause": Cause(kind="lead", id=lead_id), "store_id": "s", "at_ms": now_ms,
        "respond_by_ms": now_ms + 300_000,
    }  # fmt: skip
    if state == "offered":
        common["action"] = Action(code="contact.near", text="请在5分钟内联系这位会员：您就在附近且有空档。")  # noqa: RUF001
    return Assignment(
        **{**common, "lead_id": lead_id, "seq": seq, "state": state, "guide_id": guide_id, **more}
    )


@dataclass
class Event:
    """One server-sent event."""

    name: str
    data: dict
    position: str | None


class Stream:
    """Server-sent events of one connection, read as they come."""

    def __init__(self, response):
        self.response = response

    async def next(self):
        """The next event; None at the end."""
        lines = []
        async for line in self.response.content:
            text = line.decode().rstrip("\n")
            if text and not text.startswith(":"):
                lines.append(text)
            elif not text and lines:
                found = dict(each.split(": ", 1) for each in lines)
                return Event(found["event"], orjson.loads(found["data"]), found.get("id"))
        return None


@dataclass
class Scene:
    """A running gateway; ``log`` numbers the records that were projected."""

    base: str
    inside: str
    http: ClientSession
    scripts: Scripts
    kafka_url: str
    prefix: str
    stop: asyncio.Event
    log: int = 0
    consumer: AIOKafkaConsumer | None = field(default=None, repr=False)
    heard: list = field(default_factory=list, repr=False)
    """Records of responses with what they say, as far as somebody has read them."""

    @property
    def redis(self):
        return self.scripts.redis

    async def whole(self):
        """Let Redis be one that holds what the log says."""
        await Arbiter(self.scripts).note_identities(self.prefix + ASSIGNMENTS.name, {"server": 0})

    async def project(self, *records):
        """Bring records to their guides' inboxes, as the projector does."""
        cards = []
        for record in records:
            lead, self.log = f"{record.kind}|{record.lead_id}", self.log + 1
            live = record.state in LIVE_STATES
            cards.append(
                Card(record.brand, record.guide_id, lead, record.seq, self.log, encode(record), live)
            )
        await Arbiter(self.scripts).deliver_cards(cards)

    @asynccontextmanager
    async def stream(self, guide="g", after=None, query="", **more):
        headers = asked(guide, **more) | ({"Last-Event-ID": after} if after else {})
        async with self.http.get(f"{self.base}/v1/inbox/stream{query}", headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)

    async def post(self, body, guide="g", brand=BRAND, where=None, **headers):
        """Status and body of a response."""
        headers = asked(guide, brand=brand, **(where or {})) | headers
        async with self.http.post(f"{self.base}/v1/responses", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def wait_in_pool(self, *entries, cell=f"{BRAND}/-"):
        """Let leads wait, as ``keys.waiting`` has them."""
        await self.redis.zadd(keys.waiting(cell), dict.fromkeys(entries, 0))

    async def pool(self, guide="g", **where):
        """The ids of the leads that a guide is shown, and all that was said."""
        async with self.http.get(f"{self.base}/v1/pool", headers=asked(guide, **where)) as response:
            assert response.status == 200
            text = await response.text()
        return [each["lead_id"] for each in orjson.loads(text)["leads"]], text

    async def responses(self):
        """What the gateway publishes, each for one reader."""
        if self.consumer is None:
            self.consumer = AIOKafkaConsumer(
                bootstrap_servers=self.kafka_url.removeprefix("kafka://"),
                auto_offset_reset="earliest", fetch_max_wait_ms=10,
            )  # fmt: skip
            await self.consumer.start()
            name = self.prefix + RESPONSES.name
            while not (parts := self.consumer.partitions_for_topic(name)):
                await self.consumer._client.force_metadata_update()
                await self.consumer._client.add_topic(name)
            self.consumer.assign([TopicPartition(name, part) for part in parts])
        while True:
            record = await self.consumer.getone()
            self.heard.append((record, decode(Response, record.value)))
            yield self.heard[-1]

    async def write_outcome(self, response, outcome="applied", state="accepted", seq=2):
        """What the router leaves behind once it has taken a response."""
        journey = keys.journey(response.brand, response.member_id, response.kind, response.lead_id)
        value = orjson.dumps({"outcome": outcome, "state": state, "seq": seq})
        await self.redis.hset(journey, f"r|{response.response_id}", value)

    async def answer_all(self, outcome="applied", state="accepted", seq=2):
        """Play the router: give every response that outcome."""
        async for _, response in self.responses():
            await self.write_outcome(response, outcome, state, seq)

    async def metrics(self):
        async with self.http.get(f"{self.inside}/metrics") as response:
            lines = (await response.text()).splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
        }


@asynccontextmanager
async def running(kafka_url, redis_url, prefix, secrets=(SECRET,), port=0, *, alone=True):
    """A gateway in this process; ``alone``: no worker vouches for Redis."""
    settings = Settings(topic_prefix=prefix, gateway_port=port, gateway_secret=secrets)
    started, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    serving = asyncio.create_task(
        gateway.serve(settings, kafka_url, redis_url, stop, lambda *urls: started.set_result(urls))
    )
    await asyncio.wait({started, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    scripts = Scripts(redis_url)
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
        scene = Scene(*started.result(), http, scripts, kafka_url, prefix, stop)
        try:
            if alone:
                await scene.whole()
            yield scene
        finally:
            stop.set()
            await serving
            if scene.consumer is not None:
                await scene.consumer.stop()
            await scripts.close()


@asynccontextmanager
async def beside(task):
    """Something that goes on meanwhile."""
    running = asyncio.create_task(task)
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
