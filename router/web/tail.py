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
from router.state import keys
from router.web.channel import Channel
from router.web.reading import Guide, News, Reading

log = logging.getLogger(__name__)

#: How long the reader rests between two looks at the feeds: at least, and in times of how long it looked,
#: so that looking takes a fifth of its time at most.
REST_S, REST_SHARE = 0.05, 4
#: After an outage.
OUTAGE_REST_S = 0.5
#: Guides whose news are fetched in one round trip.
GUIDES_MAX = 256
#: Connections of one guide; the oldest makes room for one more.
CHANNELS_MAX = 4


@dataclass(slots=True)
class _Followed:
    feed: str
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
        while True:
            await self._rest()
            joining, self._joining = self._joining, []
            try:
                await self._round(await self._moved_by_now(), joining)
                self.well = True
            except (OutageError, EffectError) as trouble:
                log.warning("feeds wait: %s", trouble)
                _refuse(joining, trouble)
                self.well = False
                self._due_s = asyncio.get_running_loop().time() + OUTAGE_REST_S

    async def _rest(self) -> None:
        """Wait for the time of the next look, or for somebody who joins."""
        wait_s = self._due_s - asyncio.get_running_loop().time() if self._followed else None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    async def _moved_by_now(self) -> list[Guide]:
        """Look, if it is time to; a look that takes longer is followed by a longer rest."""
        clock = asyncio.get_running_loop().time
        if (began_s := clock()) < self._due_s:
            return []
        moved = await self._moved()
        self._due_s = clock() + max(REST_S, (clock() - began_s) * REST_SHARE)
        return moved

    async def _moved(self) -> list[Guide]:
        """The guides whose feeds go on behind where they are followed."""
        guides = {followed.feed: guide for guide, followed in self._followed.items()}
        places = {followed.feed: followed.place for followed in self._followed.values()}
        return [guides[feed] for feed in await self._reading.moved(places)]

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
            followed = self._followed.setdefault(guide, _Followed(keys.feed(*guide), each.place))
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
