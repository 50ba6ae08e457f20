"""What waits to be written to one connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from router.web.cards import Language, event, happened, snapshot
from router.web.reading import News

#: What may wait for a slow reader, beside what was told it last.
PENDING_BYTES_MAX = 256 * 1024


class Channel:
    """A bounded queue; ``over`` is why the connection ends, once it does."""

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
