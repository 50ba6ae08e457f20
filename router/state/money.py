"""The book of each brand in Redis: typed calls for whole batches, each one round trip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from router.rules.horizon import REMEMBER_MS
from router.rules.money.entries import Change
from router.rules.money.postings import HELD, Draft, Seal, month_after, moved_fen
from router.rules.money.standing import bumps, text_of
from router.state import keys
from router.state.redis import Call, Item, Scripts, answered, checked

#: Orders of one call of the script: others of Redis' clients wait for as long as it takes.
ORDERS_MAX = 64
#: Postings of a chain that are read in one go.
PAGE = 5_000
#: The keys that every change of a brand may move, in the order of the script.
_OF_BRAND = (keys.book_head, keys.unpublished, keys.vesting, keys.earned, keys.settled)

Whose = tuple[str, str]
"""Brand and id."""


@dataclass(frozen=True, slots=True)
class Held:
    """An order as Redis holds it: the text of its standing, and the inputs that it was sold under."""

    text: bytes
    inputs: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A brand's book: the last number, the first open period, how many are posted to each, and its seals."""

    seq: int
    since: str
    counts: Mapping[str, int]
    seals: Mapping[str, Seal]

    @property
    def chain(self) -> str:
        """The chain of the last seal, '' for none."""
        return self.seals[max(self.seals)].chain if self.seals else ""

    def unsealed(self, period: str) -> str:
        """The first period up to this one that has yet to be sealed, '' for none."""
        first = min([*self.counts, period])
        return first if first in self.counts or period >= self.since else ""


@dataclass(frozen=True, slots=True)
class Write:
    """A change that follows from what was read; ``seal`` with the posting that closes a period.

    ``seqs``: the numbers of postings that the log brings, see ``Money.restore``.
    """

    brand: str
    change: Change
    read: bytes
    utc_offset_h: int
    seal: Seal | None = None
    seqs: tuple[int, ...] = ()
    values: tuple[bytes, ...] = ()


class Money:
    """To call a method again with the same arguments changes nothing more.

    ``recovers``: it makes whole what Redis has lost, so nothing is asked for a mark.
    """

    def __init__(self, scripts: Scripts, *, recovers: bool = False) -> None:
        self._scripts = scripts
        self._mode = "restore" if recovers else "post"

    async def look(self, orders: Sequence[Whose]) -> list[Held]:
        """How orders stand; nothing for those that are not known."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for order in orders:
            pipeline.hmget(keys.order(*order), "s", "i")
        return [Held(text or b"", inputs or b"") for text, inputs in await self._answers(pipeline)]

    async def heads(self, brands: Sequence[str]) -> dict[str, Head]:
        """Where the books of brands are open."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for brand in brands:
            pipeline.hgetall(keys.book_head(brand))
        return {brand: _head(held) for brand, held in zip(brands, await self._answers(pipeline), strict=True)}

    async def post(self, writes: Sequence[Write]) -> list[tuple[str, list[bytes]]]:
        """Post what follows for each, all or nothing of it: the result, and the bytes of its postings.

        Results are ok, repeat, conflict, stale, beyond, over and short, see ``post.lua``.
        """
        return await self._run(writes, self._mode)

    async def restore(self, writes: Sequence[Write]) -> list[tuple[str, list[bytes]]]:
        """Enter postings that the log has, under the numbers that they have there."""
        return await self._run(writes, "restore")

    async def _run(self, writes: Sequence[Write], mode: str) -> list[tuple[str, list[bytes]]]:
        brands: dict[str, list[int]] = {}
        for row, write in enumerate(writes):
            brands.setdefault(write.brand, []).append(row)
        parts = [
            (brand, rows[at : at + ORDERS_MAX])
            for brand, rows in brands.items()
            for at in range(0, len(rows), ORDERS_MAX)
        ]
        calls = [_call(brand, [writes[row] for row in rows], mode) for brand, rows in parts]
        out: list[tuple[str, list[bytes]]] = [("", [])] * len(writes)
        for (_, rows), told in zip(parts, await self._scripts.run(calls), strict=True):
            for row, (result, *values) in zip(rows, told, strict=True):
                out[row] = (result.decode(), values)
        return out

    async def stored(self, postings: Sequence[Whose]) -> list[bytes | None]:
        """The bytes of postings that were made lately."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for posting in postings:
            pipeline.get(keys.posting(*posting))
        return await self._answers(pipeline)

    async def unpublished(self, brand: str) -> list[bytes]:
        """The postings of which it is not known that the broker has them, in the order of their numbers."""
        names: Any = await answered(self._scripts.redis.zrange(keys.unpublished(brand), 0, -1))
        held = await self.stored([(brand, name.decode()) for name in names])
        return [value for value in held if value is not None]

    async def published(self, postings: Iterable[Whose]) -> None:
        """The broker has these postings."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for brand, posting_id in postings:
            pipeline.zrem(keys.unpublished(brand), posting_id)
        await self._answers(pipeline)

    async def waiting(self, key: str, until: int, about: int) -> AsyncIterator[list[str]]:
        """The orders in a sorted set with a score up to ``until``, in parts of ``about`` so many.

        Whoever stays in the set all the while is told, whoever else comes or goes: the promise of ZSCAN.
        """
        cursor = 0
        while True:
            told: Any = await answered(self._scripts.redis.zscan(key, cursor, count=about))
            cursor, held = told
            if names := sorted({name.decode() for name, score in held if score <= until}):
                yield names
            if not cursor:
                return

    async def shut(self, brand: str, period: str) -> None:
        """Let nothing more be posted to a period or to those before it."""
        change = {"shut": {"period": period, "next": month_after(period)}}
        none = {"order": 0, "posts": [], "bumps": []}
        of_brand = [key(brand) for key in _OF_BRAND]
        await self._scripts.run([Call("post", of_brand, [REMEMBER_MS, "post", orjson.dumps(none | change)])])

    async def chain(self, brand: str, period: str) -> list[tuple[int, str, int]]:
        """The postings of a period that is shut: number, digest, how many fen it moves."""
        out: list[tuple[int, str, int]] = []
        while True:
            to = len(out) + PAGE - 1
            held: Any = await answered(
                self._scripts.redis.zrange(keys.chain(brand, period), len(out), to, withscores=True)
            )
            parts = [(int(seq), entry.decode().partition("|")) for entry, seq in held]
            out += [(seq, digest, int(fen)) for seq, (digest, _, fen) in parts]
            if len(held) < PAGE:
                return out

    async def imbalance_fen(self, brands: Sequence[str]) -> int:
        """What the accounts of the books come to, the amounts added up; anything but 0 is an error."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for brand in brands:
            pipeline.hvals(keys.earnings(brand, "book", ""))
        return sum(abs(sum(map(int, fen))) for fen in await self._answers(pipeline))

    async def chains_ok(self, brands: Sequence[str]) -> bool:
        """Whether as many postings stand in the chains and under the seals as were numbered."""
        for brand, head in (await self.heads(brands)).items():
            pipeline = self._scripts.redis.pipeline(transaction=False)
            for period in head.counts:
                pipeline.zcard(keys.chain(brand, period))
            found = await self._answers(pipeline)
            after: Any = await answered(self._scripts.redis.hget(keys.book_head(brand), "seq"))
            if int(after or 0) != head.seq:
                continue  # somebody posts just now
            count = sum(head.counts.values()) + sum(seal.count for seal in head.seals.values())
            if found != list(head.counts.values()) or count != head.seq:
                return False
        return True

    async def unmarked(self, brands: Sequence[str]) -> list[str]:
        """Those brands whose book is not known to be whole."""
        marks = await self._mark("ask", brands, [""] * len(brands))
        return [brand for brand, mark in zip(brands, marks, strict=True) if not mark]

    async def begin(self, brands: Sequence[str], token: str) -> list[str]:
        """Begin to make books whole; a token of each, which is lost with its state."""
        return await self._mark("begin", brands, [token] * len(brands))

    async def mark(self, brands: Sequence[str], tokens: Sequence[str]) -> bool:
        """Mark books as whole; False when one has lost its state since ``begin``."""
        return all(await self._mark("end", brands, tokens))

    async def _mark(self, action: str, brands: Sequence[str], tokens: Sequence[str]) -> list[str]:
        # the script lets go of a cell's changes, which a book has none of
        items = [
            Item([keys.book_head(brand), keys.changes(f"{brand}/money")], [token])
            for brand, token in zip(brands, tokens, strict=True)
        ]
        out = [""] * len(items)
        for rows, told in await self._scripts.spread("mark", (action,), items):
            for row, text in zip(rows, told, strict=True):
                out[row] = text.decode()
        return out

    @staticmethod
    async def _answers(pipeline: Any) -> list[Any]:  # noqa: ANN401 - redis-py's pipeline has no useful type
        return checked(await answered(pipeline.execute(raise_on_error=False)))


def _head(held: Mapping[bytes, bytes]) -> Head:
    fields = {name.decode(): value for name, value in held.items()}
    return Head(
        int(fields.get("seq", b"0")),
        fields.get("open", b"").decode(),
        {name[2:]: int(value) for name, value in fields.items() if name.startswith("n|")},
        {
            name[5:]: msgspec.json.decode(value, type=Seal)
            for name, value in fields.items()
            if name.startswith("seal|")
        },
    )


def _call(brand: str, writes: Sequence[Write], mode: str) -> Call:
    places = {key(brand): at for at, key in enumerate(_OF_BRAND, start=1)}

    def place(key: str) -> int:
        return places.setdefault(key, len(places) + 1)

    args = [orjson.dumps(_change(write, place)) for write in writes]
    return Call("post", list(places), [REMEMBER_MS, mode, *args])


def _change(write: Write, place: Callable[[str], int]) -> dict[str, Any]:
    brand, change = write.brand, write.change
    about_order = write.seal is None
    drafts, seqs = change.postings, write.seqs or (0,) * len(change.postings)
    values = write.values or tuple(draft.body for draft in drafts)
    added = bumps([draft.posting for draft in drafts], write.utc_offset_h)
    told: dict[str, Any] = {
        "order": place(keys.order(brand, change.order_id)) if about_order else 0,
        "id": change.order_id,
        "read": write.read.decode(),
        "standing": text_of(change.standing),
        "inputs": "" if change.inputs is None else orjson.dumps(change.inputs).decode(),
        "waits": ["" if score is None else str(score) for score in change.standing.scores],
        "posts": [
            _post(brand, draft, seq, value, place)
            for draft, seq, value in zip(drafts, seqs, values, strict=True)
        ],
        "bumps": [
            [place(keys.earnings(brand, *who)), name, str(fen), _bound(change, who[0], name, fen)]
            for who, fields in added.items()
            for name, fen in fields.items()
        ],
    }
    if write.seal is not None:
        period = write.seal.period
        told["close"] = {
            "period": period,
            "chain": place(keys.chain(brand, period)),
            "next": month_after(period),
            "count": write.seal.count,
            "seal": msgspec.json.encode(write.seal).decode(),
        }
    return told


def _bound(change: Change, kind: str, name: str, fen: int) -> str:
    """On which side of 0 an amount of a party must stay that people's commands move, '' for any."""
    if not kind.startswith("party"):
        return ""
    account = name.partition("|")[0]
    kinds = {draft.posting.kind for draft in change.postings}
    if fen < 0 and (("adjust" in kinds and account in HELD) or ("pay" in kinds and account == "paid")):
        return "least"
    return "most" if fen > 0 and "adjust" in kinds and account == "receivable" else ""


def _post(
    brand: str, draft: Draft, seq: int, value: bytes, place: Callable[[str], int]
) -> dict[str, str | int]:
    posting = draft.posting
    return {
        "key": place(keys.posting(brand, posting.posting_id)),
        "id": posting.posting_id,
        "body": value.decode(),
        "chain": place(keys.chain(brand, posting.period)),
        "entry": f"{posting.digest}|{moved_fen(posting.lines)}",
        "period": posting.period,
        "seq": seq,
    }
