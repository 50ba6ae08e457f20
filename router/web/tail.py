"""One reader for all the feeds that somebody looks at: connections join it, it tells them what is new."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from router.errors import EffectError, OutageError
from router.web.cards import Language, event, happened, snapshot
from router.web.reading import Guide, News, Reading

log = logging.getLogger(__name__)

#: How long the reader rests between two looks at the feeds' ends; longer when a look takes long,
#: so that looking takes a tenth of its time at most.
REST_S, REST_SHARE = 0.05, 9
#: After an outage.
OUTAGE_REST_S = 0.5
#: Guides whose news are fetched in one round trip.
GUIDES_MAX = 256
#: Connections of one guide; the oldest makes room for one more.
CHANNELS_MAX = 4
#: What may wait for a slow reader, beside what was told it last.
PENDING_BYTES_MAX = 256 * 1024


class Channel:
    """What waits to be written to one connection; ``over`` is why it ends, once it does."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._at_ms: list[int] = []
        self._filled = asyncio.Event()
        self.over: str | None = None

    def tell(self, news: News, *, fresh: bool, known: bool) -> None:
        """Queue news: ``fresh`` as it happens; ``known`` when the client has cards that may be wrong."""
        if news.cards is not None:
            again = event("reload", {}) if known else b""
            self._put(again + snapshot(news.cards, news.position, self._language))
        elif news.entries:
            told = [happened(made, name, self._language) for name, made in news.entries]
            self._at_ms += [made.at_ms for _, made in news.entries if fresh]
            self._put(b"".join(told))

    def end(self, reason: str) -> None:
        """Let the connection end, after what waits."""
        self.over = self.over or reason
        self._filled.set()

    async def take(self, within_s: float) -> tuple[bytes, list[int]]:
        """What waits by now, or within so many seconds, with the ``at_ms`` of what is fresh in it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._filled.wait()
        taken = b"".join(self._chunks), self._at_ms
        self._chunks, self._bytes, self._at_ms = [], 0, []
        if self.over is None:
            self._filled.clear()
        return taken

    def _put(self, chunk: bytes) -> None:
        if self._chunks and self._bytes + len(chunk) > PENDING_BYTES_MAX:
            self.end("slow")
            return
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        self._filled.set()


@dataclass(slots=True)
class _Followed:
    place: str
    channels: list[Channel] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Joining:
    guide: Guide
    place: str
    channel: Channel
    joined: asyncio.Future[None]


class Tail:
    """Follows each guide from one place, where all the guide's connections are."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._followed: dict[Guide, _Followed] = {}
        self._joining: list[_Joining] = []
        self._wake = asyncio.Event()
        self._due_s = 0.0
        self.well = True
        """Whether the last look was answered."""

    @property
    def channels(self) -> int:
        """How many connections there are, or are about to be."""
        return sum(len(followed.channels) for followed in self._followed.values()) + len(self._joining)

    async def join(self, guide: Guide, place: str, channel: Channel) -> None:
        """Tell a channel all from a place on, or all cards there are, and then whatever comes.

        Raises:
            OutageError: Redis does not tell for now.

        """
        joining = _Joining(guide, place, channel, asyncio.get_running_loop().create_future())
        self._joining.append(joining)
        self._wake.set()
        await joining.joined

    def leave(self, guide: Guide, channel: Channel) -> None:
        """Tell a channel nothing more."""
        followed = self._followed.get(guide)
        if followed is not None and channel in followed.channels:
            followed.channels.remove(channel)
            if not followed.channels:
                del self._followed[guide]

    def end(self, reason: str) -> None:
        """Let all connections end."""
        for followed in self._followed.values():
            for channel in followed.channels:
                channel.end(reason)
        _refuse(self._joining, OutageError(reason))

    async def run(self) -> None:
        """Read until cancelled; an outage passes."""
        loop = asyncio.get_running_loop()
        while True:
            await self._rest()
            joining, self._joining = self._joining, []
            began_s = loop.time()
            try:
                moved = await self._moved() if began_s >= self._due_s else []
                await self._round(moved, joining)
                self.well = True
                rest_s = max(REST_S, (loop.time() - began_s) * REST_SHARE)
            except (OutageError, EffectError) as trouble:
                log.warning("feeds wait: %s", trouble)
                _refuse(joining, trouble)
                self.well, rest_s = False, OUTAGE_REST_S
            if began_s >= self._due_s or not self.well:
                self._due_s = loop.time() + rest_s

    async def _rest(self) -> None:
        """Wait for the time of the next look, or for somebody who joins."""
        wait_s = self._due_s - asyncio.get_running_loop().time() if self._followed else None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    async def _moved(self) -> list[Guide]:
        """The guides whose feeds do not end any more where they are followed."""
        places = {guide: followed.place for guide, followed in self._followed.items()}
        ends = await self._reading.ends(list(places))
        return [guide for (guide, known), end in zip(places.items(), ends, strict=True) if known != end]

    async def _round(self, moved: Iterable[Guide], joining: Iterable[_Joining]) -> None:
        """Fetch what is new for each guide once, up to one end, for those who follow and those who join."""
        joins: dict[Guide, list[_Joining]] = defaultdict(list)
        for each in joining:
            joins[each.guide].append(each)
        guides = iter(dict.fromkeys([*moved, *joins]))
        while batch := list(itertools.islice(guides, GUIDES_MAX)):
            asked = {guide: self._places(guide, joins.get(guide, ())) for guide in batch}
            for guide, news in (await self._reading.catch_up(asked)).items():
                self._tell(guide, news, joins.get(guide, ()))

    def _places(self, guide: Guide, joins: Iterable[_Joining]) -> list[str]:
        followed = self._followed.get(guide)
        known = [followed.place] if followed else []
        return list(dict.fromkeys([*known, *(each.place for each in joins)]))

    def _tell(self, guide: Guide, news: dict[str, News], joins: Iterable[_Joining]) -> None:
        followed = self._followed.get(guide)
        if followed is not None and followed.place in news:
            for channel in followed.channels:
                channel.tell(news[followed.place], fresh=True, known=True)
        for each in joins:
            if each.joined.done():
                continue  # it has hung up meanwhile
            each.channel.tell(news[each.place], fresh=False, known=bool(each.place))
            followed = self._followed.setdefault(guide, _Followed(each.place))
            if len(followed.channels) >= CHANNELS_MAX:
                followed.channels.pop(0).end("elsewhere")
            followed.channels.append(each.channel)
            each.joined.set_result(None)
        if (followed := self._followed.get(guide)) is not None:
            followed.place = next(iter(news.values())).position


def _refuse(joining: Iterable[_Joining], trouble: Exception) -> None:
    for each in joining:
        if not each.joined.done():
            each.joined.set_exception(OutageError(str(trouble)))
