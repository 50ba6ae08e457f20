"""An extract of the book: the postings of one brand that somebody asks for, each once, and open disputes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from router.rules.money.postings import month_after
from router.rules.money.standing import said
from topics.codec import BadEventError, decode
from topics.commissions import LedgerCommand, Posting

#: Every posting that seals a period holds this; few others do.
_CLOSES = b'"close"'


@dataclass(slots=True)
class Extract:
    """Feed it the records of ``commissions`` and ``ledger-commands``; what stands twice counts once.

    With ``names`` only postings that say one of these ids or words are kept, beside the seals of periods.
    ``unreadable`` counts the records that are no postings: ``verify`` names them.
    """

    brand: str
    names: Iterable[str] = ()
    records: int = 0
    unreadable: int = 0
    _needles: tuple[bytes, ...] = field(init=False)
    _postings: dict[str, Posting] = field(default_factory=dict)
    _commands: list[LedgerCommand] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Names as they stand in the bytes of a posting."""
        self._needles = tuple(orjson.dumps(name) for name in self.names)

    def posting(self, value: bytes | None) -> None:
        """One record of ``commissions``."""
        self.records += 1
        asked = (*self._needles, _CLOSES)
        if self._needles and not any(needle in (value or b"") for needle in asked):
            return
        try:
            posting = decode(Posting, value)
        except BadEventError:
            self.unreadable += 1
            return
        if posting.brand == self.brand:
            self._postings.setdefault(posting.posting_id, posting)

    def command(self, value: bytes | None) -> None:
        """One record of ``ledger-commands``: disputes are nowhere else."""
        try:
            command = decode(LedgerCommand, value)
        except BadEventError:
            return
        if command.brand == self.brand:
            self._commands.append(command)

    @property
    def postings(self) -> list[Posting]:
        """By their numbers."""
        return sorted(self._postings.values(), key=lambda each: (each.book_seq, each.posting_id))

    @property
    def seals(self) -> dict[str, Posting]:
        """The postings that seal a period, by the period that they seal."""
        return {str(each.inputs.get("period")): each for each in self.postings if each.kind == "close"}

    @property
    def since(self) -> str:
        """The first period that is open, '' while none was closed."""
        return max(map(month_after, self.seals), default="")

    @property
    def disputes(self) -> dict[str, LedgerCommand]:
        """The orders that are disputed, and by which command."""
        return {name: last for name, last in said(self._commands).items() if last.kind == "dispute"}
