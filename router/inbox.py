"""A guide's inbox on a terminal: the cards there are, then the cards as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from router.state import keys
from router.state.redis import answered
from topics.assignments import Assignment
from topics.codec import decode


@dataclass(frozen=True, slots=True)
class Inbox:
    """Reads what the projector wrote for one guide; never writes."""

    redis: Any  # redis-py's own types leave out that this client never decodes
    brand: str
    guide_id: str

    async def cards(self) -> list[Assignment]:
        """The cards the guide holds now, oldest first."""
        held: dict[bytes, bytes] = await answered(self.redis.hgetall(keys.inbox(self.brand, self.guide_id)))
        records = [value.split(b"|", 2)[2] for value in held.values()]
        cards = [decode(Assignment, record) for record in records if record]
        return sorted(cards, key=lambda card: (card.at_ms, card.lead_id))

    async def arriving(self, position: bytes, stop: asyncio.Event) -> AsyncIterator[Assignment]:
        """Cards as they arrive after a position in the feed, until told to stop."""
        feed = keys.feed(self.brand, self.guide_id)
        while not stop.is_set():
            # shorter than the socket's time-out, or quiet would look like an outage
            answer = await answered(self.redis.xread({feed: position}, block=500))
            for _, entries in answer or ():
                for entry_id, fields in entries:
                    position = entry_id
                    yield decode(Assignment, fields[b"record"])

    async def position(self) -> bytes:
        """Where the feed ends now; to be read before the cards, so that none falls between."""
        newest = await answered(self.redis.xrevrange(keys.feed(self.brand, self.guide_id), count=1))
        position: bytes = newest[0][0] if newest else b"0"
        return position


def line(card: Assignment) -> str:
    """One card as a line of text."""
    at = datetime.fromtimestamp(card.at_ms / 1000, UTC).strftime("%H:%M:%S")
    by = datetime.fromtimestamp((card.respond_by_ms or card.at_ms) / 1000, UTC).strftime("%H:%M:%S")
    # text from outside stays on its line and moves no cursor
    text = "".join(c if c.isprintable() else " " for c in (card.action.text if card.action else card.state))
    return f"{at}  {card.kind:11} {card.lead_id:24} {card.state:10} by {by} UTC  {text}"
