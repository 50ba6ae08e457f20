"""What Redis holds of members: contracts, touches, windows; each call one round trip for a whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from router.rules.charge import Standing
from router.rules.money.deeds import Deed
from router.rules.ownership import DAY_MS, Contract, Fact, Loan, follow
from router.rules.touches import Touched
from router.state import keys
from router.state.redis import Item, Scripts, answered, checked

#: How long touches are remembered: as long as the streams, and a day.
TOUCHES_MS = 15 * DAY_MS
#: How many guides who did something for a member are remembered, how many contacts, how much of the track.
GUIDES_MAX, CONTACTS_MAX, TRACK_MAX = 8, 64, 20

#: How many deeds for a member are remembered, how many shares, how many parties who brought the member.
DEEDS_MAX, SHARES_MAX, ORIGINS_MAX = 64, 32, 32
#: How long these are remembered after the last one.
DEEDS_MS = 800 * DAY_MS

#: Of what the newest are remembered: where, and how many.
NEWEST = {"deed": (keys.deeds, DEEDS_MAX), "share": (keys.shares, SHARES_MAX)}

Member = tuple[str, str]
"""Brand and id."""

_UNKNOWN = Standing()
_facts = msgspec.json.Decoder(tuple[Fact, ...])


class Members:
    """To call a method again with the same arguments changes nothing more."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def standings(self, members: Sequence[Member]) -> tuple[list[Standing], int]:
        """What routing asks about each member, and the time by Redis' clock, epoch ms; 0 without any."""
        items = [Item([keys.member(*member), keys.acts(*member)]) for member in members]
        out, now_ms = [_UNKNOWN] * len(items), 0
        for rows, (at_ms, *held) in await self._scripts.spread("members", (), items):
            now_ms = max(now_ms, at_ms)
            for row, text in zip(rows, held, strict=True):
                if text:
                    out[row] = _standing(text)
        return out, now_ms

    async def contracts(self, members: Sequence[Member]) -> list[tuple[bytes, Contract]]:
        """What is held of each member, and the contract that follows."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for member in members:
            pipeline.hget(keys.member(*member), "facts")
        held = checked(await answered(pipeline.execute(raise_on_error=False)))
        return [(text or b"", follow(Contract(), _facts.decode(text) if text else ())) for text in held]

    async def write(self, contracts: Sequence[tuple[Member, bytes, Contract]]) -> list[bool]:
        """Write contracts of members of whom this was held; False where it is something else by now."""
        items = [
            Item([keys.member(*member)], (held, *fields_of(made).values()))
            for member, held, made in contracts
        ]
        out = [False] * len(items)
        for rows, written in await self._scripts.spread("bind", (), items):
            for row, one in zip(rows, written, strict=True):
                out[row] = bool(one)
        return out

    async def enter_books(self, contracts: Iterable[tuple[Member, Contract]]) -> None:
        """Enter members into the book of whom they are bound to, and take them out of those of others."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for (brand, member_id), contract in contracts:
            named = {guide for fact in contract.facts for guide in (fact.guide_id, fact.to_guide_id) if guide}
            for guide_id in named - {contract.owner}:
                pipeline.zrem(keys.book(brand, guide_id), member_id)
            if contract.owner:
                pipeline.zadd(keys.book(brand, contract.owner), {member_id: 0})
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def books(self, guides: Sequence[tuple[str, str]]) -> list[int]:
        """How many members are bound to each guide (brand, id)."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for guide in guides:
            pipeline.zcard(keys.book(*guide))
        return checked(await answered(pipeline.execute(raise_on_error=False)))

    async def touch(self, touches: Sequence[Touched]) -> None:
        """Note touches, and open the windows of those who came in."""
        items = [
            Item(
                [key(one.brand, one.member_id) for key in (keys.acts, keys.contacts, keys.track)],
                (one.at_ms, one.entry, one.actor, one.contact, int(one.came_in)),
            )
            for one in touches
        ]
        await self._scripts.spread("touch", (TOUCHES_MS, GUIDES_MAX, CONTACTS_MAX, TRACK_MAX), items)
        came = [(one.brand, one.member_id, one.at_ms) for one in touches if one.came_in]
        await self._windows("open", came)

    async def note_deeds(self, deeds: Sequence[Deed]) -> None:
        """Remember who did something for members, the newest, and each who brought them, the first time."""
        brought = [
            Item([keys.origins(one.brand, one.member_id)], (one.at_ms, one.entry))
            for one in deeds
            if one.track == "origin"
        ]
        await self._scripts.spread("brought", (DEEDS_MS, ORIGINS_MAX), brought)
        did = [one for one in deeds if one.track != "origin"]
        if not did:
            return
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for deed in did:
            key_of, most = NEWEST[deed.track]
            key = key_of(deed.brand, deed.member_id)
            pipeline.zadd(key, {deed.entry: deed.at_ms}, gt=True)
            pipeline.zremrangebyrank(key, 0, -1 - most)
            pipeline.pexpire(key, DEEDS_MS)
        checked(await answered(pipeline.execute(raise_on_error=False)))

    async def deeds(self, members: Sequence[Member]) -> list[list[tuple[str, str, str, str, int]]]:
        """Who did something for each member, and who brought them: kind, id, party, more, epoch ms."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for member in members:
            for key_of in (keys.deeds, keys.shares, keys.origins):
                pipeline.zrange(key_of(*member), 0, -1, withscores=True)
        held = iter(checked(await answered(pipeline.execute(raise_on_error=False))))
        return [[_deed(*row) for _ in range(3) for row in next(held)] for _ in members]

    async def waiting_windows(self, brand: str, until_ms: int, most: int) -> list[tuple[str, int]]:
        """The oldest windows that were opened up to a time: member, when."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.zrangebyscore(keys.windows(brand), 0, until_ms, start=0, num=most, withscores=True)
        [held] = checked(await answered(pipeline.execute(raise_on_error=False)))
        return [(member.decode(), int(at_ms)) for member, at_ms in held]

    async def close_windows(self, brand: str, seen_to: Iterable[tuple[str, int]]) -> None:
        """Close these windows, unless the member did something since."""
        await self._windows("close", [(brand, *each) for each in seen_to])

    async def contacts(self, members: Sequence[Member], since_ms: int) -> list[int]:
        """How often each member was contacted since a time, by anybody; no more than ``CONTACTS_MAX``."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for member in members:
            pipeline.zcount(keys.contacts(*member), since_ms, "+inf")
        return checked(await answered(pipeline.execute(raise_on_error=False)))

    async def let_through(self, reminders: Sequence[tuple[str, str, str, int]], now_ms: int) -> list[bool]:
        """Which reminders may go out: brand, guide, lead, how many the guide may get a day."""
        items = [
            Item([keys.reminded(brand, guide_id)], (lead_id, most))
            for brand, guide_id, lead_id, most in reminders
        ]
        out = [False] * len(items)
        for rows, allowed in await self._scripts.spread("remind", (now_ms, DAY_MS), items):
            for row, one in zip(rows, allowed, strict=True):
                out[row] = bool(one)
        return out

    async def _windows(self, action: str, windows: Iterable[tuple[str, str, int]]) -> None:
        items = [Item([keys.windows(brand)], (member_id, at_ms)) for brand, member_id, at_ms in windows]
        await self._scripts.spread("window", (action,), items)


def fields_of(contract: Contract) -> dict[str, bytes]:
    """The hash of a member of whom something was said."""
    loan = contract.loan
    until = "" if loan is None or loan.until_ms is None else loan.until_ms
    return {
        "facts": msgspec.json.encode(contract.facts),
        "owner": contract.owner.encode(),
        "owner_at": b"%d" % contract.since_ms,
        "loan": b"" if loan is None else f"{loan.to}|{loan.at_ms}|{until}".encode(),
    }


def _deed(entry: bytes, at_ms: float) -> tuple[str, str, str, str, int]:
    kind, name, party, more = entry.decode().split("|")
    return kind, name, party, more, int(at_ms)


def _standing(text: bytes) -> Standing:
    head, *acts = text.decode().split(" ")
    owner, since, borrower, begun, until = head.split("|")
    loan = Loan(borrower, int(begun), int(until) if until else None) if borrower else None
    if not acts:
        return Standing(owner, int(since or -1), loan)
    done = dict(zip(acts[::2], map(int, acts[1::2]), strict=True))
    return Standing(owner, int(since or -1), loan, done, done.pop(keys.ITSELF, -1))
