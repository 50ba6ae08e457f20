"""What the gateway reads: feeds, inboxes and outcomes in Redis, each for one brand and guide."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from router.errors import StateLostError
from router.rules.offers import in_pool_of
from router.state import keys
from router.state.redis import Call, Scripts, answered
from router.web.tokens import Caller
from scoring.layout import cell_name
from topics.assignments import LIVE_STATES, Assignment
from topics.codec import BadEventError, decode

log = logging.getLogger(__name__)

#: The end of a feed that holds nothing yet.
START = "0-0"
#: No entry can have this id.
NOWHERE = "0-1"
#: Round trips under way at a time; each takes a connection to Redis.
_READS_MAX = 16
#: Feeds that are asked about in one call: Redis does nothing else for a millisecond.
_FEEDS_PER_CALL = 1000
#: Leads of an open pool that a guide is shown: those who wait longest, of the highest tiers first.
POOL_MAX = 32

Guide = tuple[str, str]
"""Brand and id of a guide."""


@dataclass(frozen=True, slots=True)
class News:
    """What came after a place in a feed; or, where it cannot be told any more, all cards there are."""

    position: str
    entries: tuple[tuple[str, Assignment], ...] = ()
    cards: tuple[Assignment, ...] | None = None


class Held(NamedTuple):
    """What a guide's inbox knows of a lead at a time, epoch ms; ``made`` is the newest record left."""

    now_ms: int
    made: Assignment | None


def place(text: str) -> str:
    """The place in a feed that a client names; one that no feed has for anything that is no place."""
    return text if not text or re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", text, re.ASCII) else NOWHERE


class Waiting(NamedTuple):
    """A lead in the open pool, of a row of ``TIERS``; ``arrival_ms`` is since when it counts, epoch ms."""

    tier: int
    arrival_ms: int
    kind: str
    lead_id: str
    member_id: str


class Reading:
    """Reads what the projector wrote; never writes."""

    def __init__(self, scripts: Scripts, log_name: str) -> None:
        self._scripts = scripts
        self._log_name = log_name
        self._room = asyncio.Semaphore(_READS_MAX)

    async def moved(self, places: Mapping[str, str]) -> list[str]:
        """Which of the feeds, by their keys, have anything behind their places."""
        feeds, out = list(places), []
        for start in range(0, len(feeds), _FEEDS_PER_CALL):
            tags: dict[str, list[str]] = {}
            for feed in feeds[start : start + _FEEDS_PER_CALL]:
                tags.setdefault(keys.tag(feed) if self._scripts.clustered else "", []).append(feed)
            calls = [Call("moved", names, [places[name] for name in names]) for names in tags.values()]
            out += [feed.decode() for answer in await self._scripts.run(calls) for feed in answer]
        return out

    async def catch_up(self, asked: Mapping[Guide, Sequence[str]]) -> dict[Guide, dict[str, News]]:
        """For each guide what came after each of the places ('' for none); all to the same end of the feed.

        Raises:
            StateLostError: cards would be missing, because the log is not in Redis yet.

        """
        calls = [
            Call("catch_up", [keys.inbox(*guide), keys.feed(*guide)], list(places))
            for guide, places in asked.items()
        ]
        answers = await self._scripts.run(calls)
        if any(not told[0] for _, *each in answers for told in each):
            await self.require_whole()
        return {
            guide: {name: _news(end.decode(), told) for name, told in zip(places, each, strict=True)}
            for (guide, places), (end, *each) in zip(asked.items(), answers, strict=True)
        }

    async def held(self, guide: Guide, kind: str, lead_id: str) -> Held:
        """What a guide holds or held of a lead."""
        lead = f"{kind}|{lead_id}"
        async with self._room:
            now_ms, *found = (await self._scripts.run([Call("held_card", [keys.inbox(*guide)], [lead])]))[0]
        if not found:
            await self.require_whole()
            return Held(now_ms, None)
        record = found[0].split(b"|", 2)[2]
        made = _readable(record) if record else await self._newest(guide, kind, lead_id)
        return Held(now_ms, made)

    async def pool(self, caller: Caller) -> list[Waiting]:
        """Who waits in the market and may be taken by guides of the caller's store, in the order to go."""
        if not caller.store_id:
            return []
        waiting = keys.waiting(cell_name(caller.brand, caller.market or None))
        async with self._room:
            [text] = (await self._scripts.run([Call("waiters", [waiting], [POOL_MAX, 0])]))[0]
        found = [each.split("|") for each in text.decode().split(" ") if each]
        mine = [
            Waiting(int(tier), int(arrival_ms), kind, lead_id, member_id)
            for queue, tier, arrival_ms, _, kind, lead_id, member_id in found
            if in_pool_of(queue, caller.store_id)
        ]
        return sorted(mine)[:POOL_MAX]

    async def outcome(self, journey: str, response_id: str) -> dict[str, Any] | None:
        """What became of a response, once the journey (its key) of the lead tells."""
        async with self._room:
            value: Any = await answered(self._scripts.redis.hget(journey, f"r|{response_id}"))
        return orjson.loads(value) if value else None

    async def require_whole(self) -> None:
        """Let a Redis that knows nothing pass only if it holds what the log says; raises StateLostError."""
        async with self._room:
            if not await answered(self._scripts.redis.exists(keys.identities(self._log_name))):
                raise StateLostError("Redis waits for what the log says")

    async def _newest(self, guide: Guide, kind: str, lead_id: str) -> Assignment | None:
        """The newest record about a lead that is over, of which the inbox keeps the place alone."""
        async with self._room:
            entries: Any = await answered(self._scripts.redis.xrevrange(keys.feed(*guide)))
        for _, fields in entries:
            made = _readable(fields[b"record"])
            if made is not None and (made.kind, made.lead_id) == (kind, lead_id):
                return made
        return None


def _news(end: str, told: Sequence[Any]) -> News:
    known, *rest = told
    if not known:
        cards = [_readable(record) for record in rest]
        return News(
            end, cards=tuple(made for made in cards if made is not None and made.state in LIVE_STATES)
        )
    entries = [(rest[row].decode(), _readable(rest[row + 1])) for row in range(0, len(rest), 2)]
    return News(end, tuple((name, made) for name, made in entries if made is not None))


def _readable(record: bytes) -> Assignment | None:
    """A record, unless a later version has written what this one cannot read."""
    try:
        return decode(Assignment, record)
    except BadEventError as error:
        log.warning("a record in a feed cannot be read: %s", error.reason)
        return None
