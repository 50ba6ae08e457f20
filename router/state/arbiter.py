"""Redis decides: the typed calls behind which the scripts stand, each one round trip for a whole batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.errors import OutageError
from router.rules.charge import InCharge, nobody_in_charge
from router.rules.horizon import REMEMBER_MS
from router.rules.intake import Request
from router.rules.offers import Answer, Offer, cell_of_queue
from router.rules.placing import Home, Proposal, home_of
from router.rules.responding import Outcome
from router.rules.restoring import Restored
from router.state import keys
from router.state.members import Members
from router.state.redis import Call, Item, Scripts, answered, checked

#: Cards that a guide's feed holds for those who follow along.
FEED_MAX = 500
#: Entries, of a batch each, that a cell's changes hold; who is further behind reads the cell as a whole.
CHANGES_MAX = 256
#: After every time that a lead may wait.
_EVER_MS = 2**53


@dataclass(frozen=True, slots=True)
class Card:
    """An assignment record on its way to a guide's inbox."""

    brand: str
    guide_id: str
    lead: str
    seq: int
    offset: int
    record: bytes
    live: bool


Lead = tuple[str, str, str, str]
"""Brand, member, kind and id of a lead."""

Going = tuple[Lead, str, str, int, str]
"""A lead, from which cell, for which, how often it was offered; '' or by which version of a reservation."""

Gone = tuple[Lead, str, str, int]
"""A lead that has left a cell for another one, at which seq."""


@dataclass(frozen=True, slots=True)
class Past:
    """What Redis knows of a lead: its cell, the newest record with what was asked for, the answers by seq.

    ``projected``: the newest seq of which the journey tells; ``to``: the cell for which it has left, if it is
    on its way; ``told``: the responses of which whoever sent them knows what became.
    """

    cell: str | None
    asked: bytes | None
    steps: tuple[str, ...]
    projected: int
    to: str | None
    told: frozenset[str] = frozenset()


class Arbiter:
    """The serving state; to call a method again with the same arguments changes nothing more."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts
        self.members = Members(scripts)
        self._marks: dict[str, str] = {}

    async def fix_cells(
        self, proposals: Sequence[Proposal], in_charge: InCharge = nobody_in_charge
    ) -> tuple[list[Home], int]:
        """Fix each request's cell and read its member; also the time by Redis' clock, epoch ms.

        Two round trips, since the cell may hang on the member. Without any proposal the time is 0.
        """
        standings, read_ms = await self.members.standings([(ask.brand, ask.member_id) for ask in proposals])
        charges = in_charge([ask.brand for ask in proposals], standings, read_ms)
        wanted = [
            charge.cell if ask.owner_first and charge.cell else ask.cell
            for ask, charge in zip(proposals, charges, strict=True)
        ]
        requests = [(ask.brand, ask.kind, ask.lead_id) for ask in proposals]
        cells, now_ms = await self._fix(requests, wanted, overrule=False)
        return [home_of(*each) for each in zip(cells, charges, standings, strict=True)], now_ms

    async def claim(self, offers: Sequence[Offer]) -> list[Answer]:
        """Claim for each lead the first guide with room, or take in what happened to it, in this order.

        One more round trip asks for the time: a call that arrives when this one has given up decides nothing.
        """
        cells: dict[str, list[int]] = {}
        for row, offer in enumerate(offers):
            cells.setdefault(offer.cell, []).append(row)
        patience_ms = round(self.scripts.timeout_s * 1000)
        clocks = await self._each("clock", (), [Item([keys.capacity(cell)]) for cell in cells])
        answers = await self.scripts.run(
            [
                _claim_call(
                    cell,
                    [offers[row] for row in rows],
                    self._marks.get(cell, "?"),
                    its_ms + patience_ms,
                )
                for (cell, rows), its_ms in zip(cells.items(), clocks, strict=True)
            ]
        )
        out: dict[int, Answer] = {}
        for rows, batch in zip(cells.values(), answers, strict=True):
            for row, (result, state, seq, *steps) in zip(rows, batch, strict=True):
                out[row] = Answer(
                    result.decode(), state.decode(), seq, tuple(step.decode() for step in steps)
                )
        return [out[row] for row in range(len(offers))]

    async def set_capacities(self, rows: Iterable[tuple[str, str, int, int]]) -> None:
        """Tell Redis ``(cell, guide, version, capacity)``; older versions than it holds change nothing."""
        cells: dict[str, list[str | int]] = {}
        for cell, guide_id, version, capacity in rows:
            cells.setdefault(cell, [CHANGES_MAX]).extend((guide_id, version, capacity))
        places = (keys.capacity, keys.records, keys.changes, keys.open_attempts, keys.turns)
        await self.scripts.run(
            [Call("set_capacity", [key(cell) for key in places], args) for cell, args in cells.items()]
        )

    async def keep_journeys(
        self, records: Sequence[tuple[str, str, str, str, int, int, bytes]]
    ) -> list[tuple[int, bytes]]:
        """Keep ``(brand, member, kind, lead, seq, offset, record)``, the lowest offset of each seq.

        Returns offset and record of what is kept.
        """
        items = [Item([keys.journey(*record[:4])], record[4:]) for record in records]
        kept = [value.partition(b"|") for value in await self._each("journey", (REMEMBER_MS,), items)]
        return [(int(offset), record) for offset, _, record in kept]

    async def deliver_cards(self, cards: Sequence[Card]) -> int:
        """Put cards into their guides' inboxes; how many were new."""
        items = [
            Item(
                (keys.inbox(card.brand, card.guide_id), keys.feed(card.brand, card.guide_id)),
                (card.lead, card.seq, card.offset, card.record, int(card.live)),
            )
            for card in cards
        ]
        return sum([fresh for _, fresh in await self.scripts.spread("inbox", (REMEMBER_MS, FEED_MAX), items)])

    async def restore(self, leads: Sequence[Restored], *, overrule: bool = False) -> int:
        """Make leads what the log says where Redis knows less or otherwise; how many were changed.

        ``overrule`` also the cells that are fixed: after a loss of everything they may come from a repeat.
        """
        changed, begin = 0, 0
        for row, lead in enumerate(leads):
            if lead.moved:  # what was restored before it goes with it
                changed += await self._restore(leads[begin:row], overrule=overrule)
                await self._bring(lead)
                changed += await self._restore([lead], overrule=True)
                begin = row + 1
        return changed + await self._restore(leads[begin:], overrule=overrule)

    async def _restore(self, leads: Sequence[Restored], *, overrule: bool) -> int:
        requests = [(lead.brand, lead.kind, lead.lead_id) for lead in leads]
        homes, _ = await self._fix(requests, [lead.cell for lead in leads], overrule=False)
        if overrule:
            # a repeat of what was before it moved brings nobody back
            known = zip(homes, leads, strict=True)
            newest = await self._newest([keys.lead(home, lead.kind, lead.lead_id) for home, lead in known])
            wrong = [
                row for row, lead in enumerate(leads) if homes[row] != lead.cell and newest[row] <= lead.seq
            ]
            cells_now = [leads[row].cell for row in wrong]
            await self._fix([requests[row] for row in wrong], cells_now, overrule=True)
            for row, cell in zip(wrong, cells_now, strict=True):
                homes[row] = cell
        cells: dict[str, list[Restored]] = {}
        for home, lead in zip(homes, leads, strict=True):
            cells.setdefault(home, []).append(lead)
        return sum(await self.scripts.run([_restore_call(cell, those) for cell, those in cells.items()]))

    async def _newest(self, leads: Sequence[str]) -> list[int]:
        """The newest seq of each lead, by its key in a cell; 0 for none."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for lead in leads:
            pipeline.hget(lead, "q")
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return [int(seq or 0) for seq in held]

    async def _bring(self, lead: Restored) -> None:
        """Let a lead leave the cell that it is fixed to, where that is another, with what is known of it.

        Unless it has gone on from there meanwhile: whoever is told late of a move brings nobody back.
        """
        held: Any = await answered(
            self.scripts.redis.get(keys.lead_cell(lead.brand, lead.kind, lead.lead_id))
        )
        cell = held.decode() if held is not None else lead.cell
        if cell == lead.cell:
            return
        whom = (lead.brand, lead.member_id, lead.kind, lead.lead_id)
        left, stays = (keys.lead(each, lead.kind, lead.lead_id) for each in (cell, lead.cell))
        if (await self._newest([left]))[0] > lead.seq:
            return
        # whatever it is to Redis: the log says that it has gone
        [(_, brought)] = await self.leave([(whom, cell, lead.cell, 0, str(_EVER_MS))], _EVER_MS)
        there: Any = await answered(self.scripts.redis.hgetall(left))
        here: Any = await answered(self.scripts.redis.hgetall(stays))
        pipeline = self.scripts.redis.pipeline(transaction=False)
        if is_elsewhere(here):
            pipeline.delete(stays)
        for line in brought.splitlines():
            name, _, value = line.partition("\t")
            pipeline.hsetnx(stays, name, value)
        if brought:
            pipeline.hset(left, "to", lead.cell)
        elif not is_elsewhere(there):
            pipeline.delete(left)
        checked(await answered(pipeline.execute(raise_on_error=False)))
        await self.scripts.run([_arrive_call(cell, [(whom, cell, lead.cell, int(there.get(b"q", 0)))])])

    async def unmarked(self, cells: Sequence[str]) -> list[str]:
        """Those of the cells whose state is not known to be whole."""
        marks = await self._mark("ask", cells, [""] * len(cells))
        return [cell for cell, mark in zip(cells, marks, strict=True) if not mark]

    async def begin(self, cells: Sequence[str], token: str) -> list[str]:
        """Begin to make cells whole; a token of each, which is lost with its state."""
        return await self._mark("begin", cells, [token] * len(cells))

    async def mark(self, cells: Sequence[str], tokens: Sequence[str]) -> bool:
        """Mark cells as whole; False when one has lost its state since ``begin``, which is not marked."""
        return all(await self._mark("end", cells, tokens))

    async def changes(self, cells: Sequence[str], places: Sequence[str]) -> list[list[str]]:
        """What has changed in each cell since a place in its stream ('' for none).

        Returns per cell ``[place, guide, load, turn, record, ...]``, ``|`` standing for the cell with its
        clock, or ``[place, "gap"]`` when the cell has to be read as a whole.
        """
        items = [
            Item([keys.capacity(cell), keys.changes(cell)], [place])
            for cell, place in zip(cells, places, strict=True)
        ]
        out = [text.decode().split(" ") for text in await self._each("changes", (), items)]
        self._marks |= {cell: place.partition("-")[0] for cell, (place, *_) in zip(cells, out, strict=True)}
        return out

    def forget_marks(self) -> None:
        """Claim by whatever marks there are until the next changes tell them: cells were made whole anew."""
        self._marks.clear()

    async def meet(self, asks: Sequence[tuple[Request, str, int, str]]) -> list[tuple[str, int]]:
        """For each lead, what it asks for, for how long, and the closed one whose place it takes, if any.

        Returns the other lead (kind|id) that stands for the same, and for how long, ms; '' if there is none:
        then it is the one that later ones are told of.
        """
        items = [
            Item(
                [keys.needs(request.event.brand, request.event.member_id)],
                (what, f"{request.kind}|{request.lead_id}", window_ms, instead),
            )
            for request, what, window_ms, instead in asks
        ]
        told = [text.decode().rpartition("|") for text in await self._each("meet", (REMEMBER_MS,), items)]
        return [(lead, int(age_ms or 0)) for lead, _, age_ms in told]

    async def part(self, leads: Sequence[Lead]) -> None:
        """These leads are closed: nobody is told of them any more."""
        items = [Item([keys.needs(*lead[:2])], [f"{lead[2]}|{lead[3]}"]) for lead in leads]
        await self.scripts.spread("part", (), items)

    async def recall(self, leads: Sequence[Lead]) -> tuple[list[Past], int]:
        """What is known of leads, two round trips; also the time by Redis' clock, epoch ms.

        The cell is None for a lead that was never routed, the record for one not projected yet.
        """
        redis = self.scripts.redis.pipeline(transaction=False)
        for brand, member_id, kind, lead_id in leads:
            redis.get(keys.lead_cell(brand, kind, lead_id))
            redis.hgetall(keys.journey(brand, member_id, kind, lead_id))
        held = checked(await answered(redis.execute(raise_on_error=False)))
        cells = [cell.decode() if cell else None for cell in held[::2]]
        redis = self.scripts.redis.pipeline(transaction=False)
        for (_, _, kind, lead_id), cell in zip(leads, cells, strict=True):
            if cell is not None:
                redis.hgetall(keys.lead(cell, kind, lead_id))
        found = iter(checked(await answered(redis.execute(raise_on_error=False))))
        stories = [next(found) if cell is not None else {} for cell in cells]
        await self._follow(leads, stories)
        pasts = []
        for cell, journey, story in zip(cells, held[1::2], stories, strict=True):
            to = story.get(b"to")
            seqs = _seqs(journey)
            asked, newest = _asked(journey, seqs), next(iter(seqs), 0)
            told = frozenset(
                name.decode().removeprefix(keys.RESPONSE)
                for name in journey
                if name.startswith(keys.RESPONSE.encode())
            )
            pasts.append(Past(cell, asked, _steps(story), newest, to.decode() if to else None, told))
        return pasts, await self.now_ms()

    async def _follow(self, leads: Sequence[Lead], stories: Sequence[Mapping[bytes, bytes]]) -> None:
        """Where a lead is at home elsewhere by now, its cell is that one, whatever a late call has fixed."""
        moved = {
            (brand, kind, lead_id): story[b"to"].decode()
            for (brand, _, kind, lead_id), story in zip(leads, stories, strict=True)
            if is_elsewhere(story)
        }
        if moved:
            await self._fix(list(moved), list(moved.values()), overrule=True)
            raise OutageError("a lead has moved since it was looked for")

    async def leave(self, moves: Sequence[Going], now_ms: int) -> list[tuple[str, str]]:
        """Let leads leave their cell for another one: those who wait, and reservations with a later version.

        Returns the cell that each left for, as it was told the first time, and what it brings there; '' and
        nothing for one that stays.
        """
        cells: dict[str, list[int]] = {}
        for row, (_, cell, *_) in enumerate(moves):
            cells.setdefault(cell, []).append(row)
        calls = [_leave_call(cell, [moves[row] for row in rows], now_ms) for cell, rows in cells.items()]
        out = [("", "")] * len(moves)
        for rows, told in zip(cells.values(), await self.scripts.run(calls), strict=True):
            for row, parts in zip(rows, told, strict=True):
                fields = {
                    name.decode(): value.decode() for name, value in zip(parts[::2], parts[1::2], strict=True)
                }
                to = fields.pop("to", "")
                out[row] = (to, "\n".join("\t".join(field) for field in fields.items()))
        return out

    async def arrive(self, moves: Sequence[Gone]) -> None:
        """Leads have been claimed in the cell that they left for: that is where they are from now on."""
        cells: dict[str, list[Gone]] = {}
        for move in moves:
            cells.setdefault(move[1], []).append(move)
        # first, since what is left tells whoever looks where a lead is: its cell may be fixed later
        await self.scripts.run([_arrive_call(cell, those) for cell, those in cells.items()])
        requests = [(lead[0], *lead[2:]) for lead, *_ in moves]
        await self._fix(requests, [to for _, _, to, _ in moves], overrule=True)

    async def have_room(self, wanted: Sequence[tuple[Lead, str, str]]) -> list[bool]:
        """Whether leads might take the slots (as in `Offer`) that they want in a cell, as it looks now."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        asked: list[tuple[int, int]] = []
        for row, ((_, member_id, kind, lead_id), cell, slots) in enumerate(wanted):
            for most, _, slot in (each.partition(":") for each in slots.split() if ":" in each):
                asked.append((row, int(most)))
                pipeline.zlexcount(keys.slots(cell), f"[{slot}|", f"({slot}}}")
                pipeline.zscore(keys.slots(cell), f"{slot}|{keys.whom(kind, lead_id, member_id)}")
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        full = {
            row
            for (row, most), taken, own in zip(asked, held[::2], held[1::2], strict=True)
            if taken >= most and own is None
        }
        return [row not in full for row in range(len(wanted))]

    async def tell_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Note what became of responses, by their ids, where whoever sent them can read it.

        That one changed nothing is noted only where nothing is: such a call may come late, when the response
        was read again and has changed something.
        """
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for lead, response_id, changed, text in outcomes:
            note = pipeline.hset if changed else pipeline.hsetnx
            note(keys.journey(*lead), f"{keys.RESPONSE}{response_id}", text)
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def park(self, responses: Sequence[tuple[str, bytes]], until_ms: int) -> None:
        """Keep (brand, response) that came before their lead; they are due again then."""
        for brand, response in responses:
            await answered(self.scripts.redis.zadd(keys.parked(brand), {response: until_ms}))

    async def due(self, names: Sequence[str], now_ms: int, most: int) -> list[list[tuple[bytes, int]]]:
        """What is due by now in each of these sorted sets, the earliest first, at most so many of each."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for name in names:
            pipeline.zrange(name, "-inf", now_ms, byscore=True, offset=0, num=most, withscores=True)
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return [[(member, int(at_ms)) for member, at_ms in those] for those in held]

    async def forget_due(self, name: str, members: Sequence[tuple[bytes, int]]) -> None:
        """Take out of a sorted set what the broker has by now, unless it is due at another time meanwhile."""
        args = [part for member in members for part in member]
        await self.scripts.run([Call("forget", [name], args)])

    async def held(self, cell: str, guide_ids: Sequence[str]) -> list[list[tuple[str, str, str]]]:
        """The leads (kind, id, member) that each of these guides of a cell holds."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for guide_id in guide_ids:
            pipeline.zrange(keys.open_attempts(cell), f"[{guide_id}|", f"({guide_id}}}", bylex=True)
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return [[tuple(member.decode().split("|")[1:]) for member in those] for those in held]

    async def forget_waiting(self, cell: str, waiter: str, seq: int) -> None:
        """Take out of a cell what a recovery has left there of a lead that is in another.

        It is at a later seq there, or its queue is not of this cell.
        """
        queue, *_, whom = waiter.split("|", 4)
        kind, lead_id, _ = whom.split("|")
        here: Any = await answered(self.scripts.redis.hget(keys.lead(cell, kind, lead_id), "q"))
        if int(here or 0) >= seq and cell_of_queue(cell.partition("/")[0], queue) == cell:
            return  # it is just arriving here
        pipeline = self.scripts.redis.pipeline(transaction=False)
        pipeline.zrem(keys.waiting(cell), waiter)
        pipeline.zrem(keys.due(cell), whom)
        pipeline.delete(keys.lead(cell, kind, lead_id))
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def waiters(self, cells: Sequence[str], after: Sequence[int], most: int) -> list[list[str]]:
        """Who waits longest in each queue and tier of each cell, as `keys.waiting` tells.

        And where ``after`` is above 0, at least ``most``, as many more behind so many.
        """
        items = [Item([keys.waiting(cell)], [skip]) for cell, skip in zip(cells, after, strict=True)]
        return [
            text.decode().split(" ") if text else [] for text in await self._each("waiters", (most,), items)
        ]

    async def records(self, cells: Sequence[str]) -> dict[str, dict[str, str]]:
        """The record of each guide who has any, by cell."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for cell in cells:
            pipeline.hgetall(keys.records(cell))
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return {
            cell: {guide.decode(): text.decode() for guide, text in those.items()}
            for cell, those in zip(cells, held, strict=True)
        }

    async def loads(self, cells: Sequence[str]) -> dict[str, Counter[str]]:
        """Open attempts of each guide who has any, by cell, as they stand now."""
        members = await self._ranges(cells, keys.open_attempts, -1)
        return {
            cell: Counter(member.decode().partition("|")[0] for member, _ in those)
            for cell, those in zip(cells, members, strict=True)
        }

    async def turns(self, cells: Sequence[str]) -> dict[str, dict[str, int]]:
        """The turn of each guide who had any, by cell, and the cell's clock as that of ``|``."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for cell in cells:
            pipeline.hgetall(keys.turns(cell))
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return {
            cell: {guide.decode(): int(turn) for guide, turn in those.items()}
            for cell, those in zip(cells, held, strict=True)
        }

    async def now_ms(self) -> int:
        """The time by Redis' clock, epoch ms."""
        seconds, micros = await answered(self.scripts.redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def known_identities(self, log_name: str) -> dict[str, int]:
        """The servers that were made to hold what the log of that name says, and since when, epoch ms."""
        held: Any = await answered(self.scripts.redis.hgetall(keys.identities(log_name)))
        return {identity.decode(): int(since_ms) for identity, since_ms in held.items()}

    async def note_identities(self, log_name: str, since_ms: Mapping[str, int]) -> None:
        """Note that these servers, and no others, hold what the log of that name says, and since when."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        pipeline.delete(keys.identities(log_name))
        for identity, at_ms in since_ms.items():
            pipeline.hset(keys.identities(log_name), identity, at_ms)
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def known_cells(self) -> list[str]:
        """Every cell that was noted since Redis holds anything, also where no store is any more."""
        held: Any = await answered(self.scripts.redis.hgetall(keys.CELLS))
        return [cell.decode() for cell in held]

    async def note_cells(self, cells: Sequence[str]) -> None:
        """Note that leads may be at home in these cells from now on."""
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for cell in cells:
            pipeline.hset(keys.CELLS, cell, "")
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def _each(self, script: str, head: Sequence[str | bytes | int], items: Sequence[Item]) -> list[Any]:
        """The answer for each item, of a script that gives one for each."""
        out: list[Any] = [None] * len(items)
        for rows, answers in await self.scripts.spread(script, head, items):
            for row, answer in zip(rows, answers, strict=True):
                out[row] = answer
        return out

    async def _mark(self, action: str, cells: Sequence[str], tokens: Sequence[str]) -> list[str]:
        items = [
            Item([keys.capacity(cell), keys.changes(cell)], [token])
            for cell, token in zip(cells, tokens, strict=True)
        ]
        return [text.decode() for text in await self._each("mark", (action,), items)]

    async def _fix(
        self, requests: Sequence[tuple[str, str, str]], cells: Sequence[str], *, overrule: bool
    ) -> tuple[list[str], int]:
        """Fix the cell of each (brand, kind, id); what is fixed, and the time."""
        items = [
            Item([keys.lead_cell(*request)], [cell]) for request, cell in zip(requests, cells, strict=True)
        ]
        head = (REMEMBER_MS, int(overrule))
        out, now_ms = [""] * len(items), 0
        for rows, (at_ms, *fixed) in await self.scripts.spread("fix_cells", head, items):
            now_ms = max(now_ms, at_ms)
            for row, cell in zip(rows, fixed, strict=True):
                out[row] = cell.decode()
        return out, now_ms

    async def _ranges(
        self, cells: Sequence[str], key: Callable[[str], str], last: int
    ) -> list[list[tuple[bytes, float]]]:
        pipeline = self.scripts.redis.pipeline(transaction=False)
        for cell in cells:
            pipeline.zrange(key(cell), 0, last, withscores=True)
        return checked(await answered(pipeline.execute(raise_on_error=False)))


def _seqs(journey: Mapping[bytes, bytes]) -> list[int]:
    """The steps of which a journey tells, the newest first."""
    return sorted((int(seq) for seq in journey if seq.isdigit()), reverse=True)


def _asked(journey: Mapping[bytes, bytes], seqs: Sequence[int]) -> bytes | None:
    """The newest record of a journey that holds what was asked for."""
    for seq in seqs:
        record = journey[b"%d" % seq].partition(b"|")[2]
        if seq == 1 or b'"reservation":{' in record:
            return record
    return None


def _steps(held: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The answers of a lead by their seq, as far as they are there."""
    seqs = range(1, int(held.get(b"q", 0)) + 1)
    return tuple(held.get(b"%d" % seq, b"").decode() for seq in seqs)


def _claim_call(cell: str, offers: Sequence[Offer], mark: str, by_ms: int) -> Call:
    names = _cell_keys(cell)
    rules = f"{offers[0].rules} {by_ms}"
    args: list[str | int] = [REMEMBER_MS, CHANGES_MAX, mark if offers[0].marked else "", rules]
    for offer in offers:
        names.append(keys.lead(cell, offer.kind, offer.lead_id))
        args += (keys.whom(offer.kind, offer.lead_id, offer.member_id), offer.digest)
        args += (offer.shortlist, offer.about, offer.cause, offer.move, offer.slots)
        args.append(offer.brought)
    return Call("claim", names, args)


def seq_of(brought: str) -> int:
    """The newest seq of a lead that brings this along, see `Arbiter.leave`."""
    return int(dict(line.split("\t", 1) for line in brought.splitlines())["q"])


def is_elsewhere(story: Mapping[bytes, bytes]) -> bool:
    """Whether of a lead only the cell is left in which it is at home by now, see `arrive.lua`."""
    return b"to" in story and story.get(b"q", b"") not in story


def _leave_call(cell: str, moves: Sequence[Going], now_ms: int) -> Call:
    names = _cell_keys(cell)
    args: list[str | int] = [now_ms, CHANGES_MAX]
    for (_, member_id, kind, lead_id), _, to, attempt, version in moves:
        names.append(keys.lead(cell, kind, lead_id))
        args += [keys.whom(kind, lead_id, member_id), to, attempt, version]
    return Call("leave", names, args)


def _arrive_call(cell: str, moves: Sequence[Gone]) -> Call:
    names: list[str] = []
    args: list[str | int] = [REMEMBER_MS]
    for (_, _, kind, lead_id), _, to, seq in moves:
        names.append(keys.lead(cell, kind, lead_id))
        args += [to, seq]
    return Call("arrive", names, args)


def _restore_call(cell: str, leads: Sequence[Restored]) -> Call:
    names = _cell_keys(cell)
    args: list[str | int] = [REMEMBER_MS, CHANGES_MAX]
    for lead in leads:
        names.append(keys.lead(cell, lead.kind, lead.lead_id))
        args += (keys.whom(lead.kind, lead.lead_id, lead.member_id), lead.seq, lead.answer)
        args += (lead.digest, lead.guide_id, lead.ends_ms, lead.turn)
        args += (lead.record, lead.slots)
    return Call("restore", names, args)


def _cell_keys(cell: str) -> list[str]:
    """What claim and restore work on, besides the leads."""
    return [key(cell) for key in keys.OF_CELL]
