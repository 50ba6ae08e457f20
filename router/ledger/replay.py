"""What Redis should hold of the books, worked out from their topics; and where it may hold something else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from router.ledger.carrying import parked_of
from router.rules.horizon import REMEMBER_MS
from router.rules.intake import Record, decoded
from router.rules.money.book import Book, Fault, Ledger
from router.rules.money.standing import PARKED_MAX, UNKNOWN, Parked, text_of
from router.state import keys
from topics.catalog import COMMISSIONS, LEDGER_COMMANDS, ORDERS, Topic
from topics.commissions import LedgerCommand
from topics.orders import Order

#: What the books are read from.
BOOK_TOPICS: tuple[Topic, ...] = (COMMISSIONS, LEDGER_COMMANDS, ORDERS)


class BookReplay:
    """Feed it the records of ``BOOK_TOPICS``, then ``finish``; ``faults`` is what is wrong with the books."""

    def __init__(self, utc_offset_h: Callable[[str], int]) -> None:
        self._book = Book(utc_offset_h)
        self._refunds: dict[tuple[str, str], dict[str, Parked]] = defaultdict(dict)

    def feed(self, topic: Topic, records: Sequence[Record]) -> None:
        """Take records of one topic, in the order of their partition."""
        if topic is COMMISSIONS:
            for record in records:
                self._book.take(record.value, f"{record.topic}[{record.partition}]@{record.offset}")
        elif topic is LEDGER_COMMANDS:
            for command, _ in decoded(LedgerCommand, list(records))[0]:
                self._book.command(command)
        else:
            for order, record in decoded(Order, list(records))[0]:
                if order.status == "refunded":
                    self._park(order, record)

    def _park(self, order: Order, record: Record) -> None:
        waiting = self._refunds[order.brand, order.order_id]
        for late in [name for name, each in waiting.items() if each.until_ms <= record.timestamp]:
            del waiting[late]  # it was told by then that no order came
        if len(waiting) < PARKED_MAX:
            waiting.setdefault(order.refund_id or "", parked_of(order, record))

    @property
    def ledgers(self) -> dict[str, Ledger]:
        """The books by their brands, once they are finished."""
        return self._book.ledgers

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the books, by posting."""
        return self._book.faults

    @property
    def brands(self) -> set[str]:
        """Whose books there are."""
        return {*self.ledgers, *(brand for brand, _ in self._refunds)}

    def finish(self, now_ms: int, opened: Sequence[str]) -> dict[str, Any]:
        """Every key of the books and what it should hold; ``opened``: brands whose book is open, if empty."""
        self._book.finish()
        for (brand, order_id), waiting in self._refunds.items():
            standings = self.ledgers.setdefault(brand, Ledger()).standings
            standing = standings.get(order_id, UNKNOWN)
            if not standing.digest:
                parked = tuple(each for each in waiting.values() if each.until_ms > now_ms)
                standings[order_id] = replace(standing, parked=parked)
        contents: dict[str, Any] = {}
        for brand in opened:  # nobody posts to the book of a brand without a store
            contents |= _contents(brand, self.ledgers.get(brand, Ledger()), now_ms)
        return contents


def _head(ledger: Ledger, now_ms: int) -> dict[str, bytes]:
    head = {keys.MARK: b"%d" % now_ms}
    if ledger.last_seq:
        head["seq"] = b"%d" % ledger.last_seq
    if ledger.since:
        head["open"] = ledger.since.encode()
    head |= {f"n|{period}": b"%d" % len(entries) for period, entries in ledger.chains.items()}
    return head | {f"seal|{period}": msgspec.json.encode(seal) for period, seal in ledger.seals.items()}


def _contents(brand: str, ledger: Ledger, now_ms: int) -> dict[str, Any]:
    out: dict[str, Any] = {keys.book_head(brand): _head(ledger, now_ms)}
    waits: tuple[dict[str, int], ...] = ({}, {}, {})
    for name, standing in ledger.standings.items():
        if standing == UNKNOWN:
            continue
        inputs = ledger.inputs.get(name)
        fields = {"s": text_of(standing).encode()}
        out[keys.order(brand, name)] = fields | ({} if inputs is None else {"i": orjson.dumps(inputs)})
        for scores, score in zip(waits, standing.scores, strict=True):
            if score is not None:
                scores[name] = score
    # what is due is with the timers, or on its way from them
    waits = ({name: at_ms for name, at_ms in waits[0].items() if at_ms > now_ms}, *waits[1:])
    for key, scores in zip((keys.vesting, keys.earned, keys.settled), waits, strict=True):
        if scores:
            out[key(brand)] = scores
    out |= {keys.chain(brand, period): entries for period, entries in ledger.chains.items()}
    out |= {keys.earnings(brand, *who): _earned(fields) for who, fields in ledger.balances.items()}
    for posting_id, posting in ledger.postings.items():
        if posting.occurred_at_ms > now_ms - REMEMBER_MS:
            out[keys.posting(brand, posting_id)] = ledger.values[posting_id].decode()
    return out


def _earned(fields: dict[str, int]) -> dict[str, bytes]:
    """The hash of a party: of its days only the last one is kept."""
    out = {name: b"%d" % fen for name, fen in fields.items() if not name.startswith("d|")}
    days = sorted((name[2:], fen) for name, fen in fields.items() if name.startswith("d|"))
    if days:
        out["day"] = f"{days[-1][0]} {days[-1][1]}".encode()
    return out


def may_be_missing(key: str, wanted: Any) -> bool:  # noqa: ANN401 - any content
    """Whether Redis may lack a key: the bytes of a posting are forgotten, and 0 fen are nothing."""
    if "}:posting:" in key:
        return True
    return "}:earnings:" in key and not any(map(_fen, wanted.values()))


def books_agree(key: str, name: str, wanted: Any, held: Any) -> bool:  # noqa: ANN401 - bytes or a score, or None
    """Whether Redis holds in a field what it should: of an amount nothing is the same as 0."""
    if key.endswith("}:head") and name in {keys.MARK, keys.TOKEN}:
        return held is not None or name == keys.TOKEN  # what they say is Redis' own business
    if "}:earnings:" in key and name != "day":
        return _fen(wanted) == _fen(held)
    if key.endswith("}:vesting") and wanted is None:
        return True  # due by now
    return bool(wanted == held)


def _fen(value: bytes | None) -> int:
    """An amount, or that of a day."""
    return int(value.rpartition(b" ")[2]) if value else 0
