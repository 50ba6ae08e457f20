"""Redis decides: the typed calls behind which the scripts stand, each one round trip for a whole batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from router.rules.offers import Answer, Offer
from router.rules.placing import Home, Proposal
from router.state import keys
from router.state.redis import Call, Scripts, answered, checked

#: How long a lead's answer is remembered: the stream retention and a day, so that no replay outlives it.
REMEMBER_MS = 15 * 24 * 3600 * 1000
#: Cards that a guide's feed holds for those who follow along.
FEED_MAX = 500


@dataclass(frozen=True, slots=True)
class Card:
    """An assignment record on its way to a guide's inbox."""

    brand: str
    guide_id: str
    lead: str
    seq: int
    record: bytes
    live: bool


class Arbiter:
    """The serving state; to call a method again with the same arguments changes nothing more."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts

    async def fix_cells(self, proposals: Sequence[Proposal]) -> tuple[list[Home], int]:
        """Fix each request's cell and read its member; also the time by Redis' clock, epoch ms."""
        names: list[str] = []
        args: list[str | int] = [REMEMBER_MS]
        for ask in proposals:
            names += (
                keys.member(ask.brand, ask.member_id),
                keys.lead_cell(ask.brand, ask.kind, ask.lead_id),
            )
            args += (ask.cell, int(ask.owner_first))
        [answer] = await self.scripts.run([Call("fix_cells", names, args)])
        words = [word.decode() for word in answer]
        homes = [Home(cell, owner) for cell, owner in zip(words[2::2], words[3::2], strict=True)]
        return homes, int(words[0]) * 1000 + int(words[1]) // 1000

    async def claim(self, offers: Sequence[Offer]) -> list[Answer]:
        """Claim for each lead the first guide with room, one script call per cell, in the given order."""
        cells: dict[str, list[int]] = {}
        for row, offer in enumerate(offers):
            cells.setdefault(offer.cell, []).append(row)
        answers = await self.scripts.run(
            [_claim_call(cell, [offers[row] for row in rows]) for cell, rows in cells.items()]
        )
        out: dict[int, Answer] = {}
        for rows, batch in zip(cells.values(), answers, strict=True):
            for row, (result, seq, attempt, stored) in zip(rows, batch, strict=True):
                out[row] = Answer(result.decode(), seq, attempt, stored.decode())
        return [out[row] for row in range(len(offers))]

    async def set_capacities(self, rows: Iterable[tuple[str, str, int, int]]) -> None:
        """Tell Redis ``(cell, guide, version, capacity)``; older versions than it holds change nothing."""
        cells: dict[str, list[str | int]] = {}
        for cell, guide_id, version, capacity in rows:
            cells.setdefault(cell, []).extend((guide_id, version, capacity))
        await self.scripts.run(
            [Call("set_capacity", [keys.capacity(cell)], args) for cell, args in cells.items()]
        )

    async def bind(self, bindings: Sequence[tuple[str, str, int, str, str]]) -> None:
        """Note ``(brand, member, at_ms, owner or '', owner's cell or '')``; the latest counts."""
        if not bindings:
            return
        names = [keys.member(brand, member_id) for brand, member_id, *_ in bindings]
        args = [word for binding in bindings for word in binding[2:]]
        await self.scripts.run([Call("bind", names, args)])

    async def keep_journeys(self, records: Sequence[tuple[str, str, str, str, int, bytes]]) -> list[bytes]:
        """Keep ``(brand, member, kind, lead, seq, record)``, the first per seq; answer what is kept."""
        if not records:
            return []
        names = [keys.journey(*record[:4]) for record in records]
        args: list[bytes | int] = [REMEMBER_MS]
        for *_, seq, value in records:
            args += (seq, value)
        [kept] = await self.scripts.run([Call("journey", names, args)])
        return list(kept)

    async def deliver_cards(self, cards: Sequence[Card]) -> int:
        """Put cards into their guides' inboxes; how many were new."""
        if not cards:
            return 0
        names: list[str] = []
        args: list[str | bytes | int] = [REMEMBER_MS, FEED_MAX]
        for card in cards:
            names += (keys.inbox(card.brand, card.guide_id), keys.feed(card.brand, card.guide_id))
            args += (card.lead, card.seq, card.record, int(card.live))
        [fresh] = await self.scripts.run([Call("inbox", names, args)])
        return int(fresh)

    async def loads(self, cells: Sequence[str]) -> Counter[tuple[str, str]]:
        """Open attempts per (cell, guide), as they stand now."""
        loads: Counter[tuple[str, str]] = Counter()
        for cell, members in zip(cells, await self._ranges(cells, keys.open_attempts, -1), strict=True):
            loads.update((cell, member.decode().split("|", 1)[0]) for member, _ in members)
        return loads

    async def oldest_waiting(self, cells: Sequence[str]) -> dict[str, int]:
        """The arrival of the longest waiting lead of each cell that has any, epoch ms."""
        oldest = await self._ranges(cells, keys.waiting, 0)
        return {cell: int(first[0][1]) for cell, first in zip(cells, oldest, strict=True) if first}

    async def now_ms(self) -> int:
        """The time by Redis' clock, epoch ms."""
        seconds, micros = await answered(self.scripts.redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def is_new(self, log_name: str) -> bool:
        """Whether this Redis has never served the log of that name."""
        return not await answered(self.scripts.redis.exists(keys.epoch(log_name)))

    async def note_epoch(self, log_name: str) -> None:
        """Note that this Redis serves the log of that name from now on."""
        await answered(self.scripts.redis.set(keys.epoch(log_name), await self.now_ms(), nx=True))

    async def _ranges(
        self, cells: Sequence[str], key: Callable[[str], str], last: int
    ) -> list[list[tuple[bytes, float]]]:
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for cell in cells:
            pipeline.zrange(key(cell), 0, last, withscores=True)
        return checked(await answered(pipeline.execute(raise_on_error=False)))


def _claim_call(cell: str, offers: Sequence[Offer]) -> Call:
    names = [keys.open_attempts(cell), keys.capacity(cell), keys.waiting(cell)]
    args: list[str | int] = [REMEMBER_MS]
    for offer in offers:
        names.append(keys.lead(cell, offer.kind, offer.lead_id))
        args += (
            f"{offer.kind}|{offer.lead_id}",
            offer.digest,
            offer.shortlist,
            f"{offer.arrival_ms} {offer.queue} {offer.terms}",
        )
    return Call("claim", names, args)
