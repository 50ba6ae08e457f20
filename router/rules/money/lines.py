"""What each kind of posting moves: a function of its own ``inputs``.

Whoever has a posting alone can work its lines out again; whoever makes several of one sale has read its
inputs already, and hands over what they entitle to. Of a sale that is given back in part every party holds
its entitlement on what remains; the reversals carry the differences, and take them from where the money lies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from router.rules.money.entitlement import Entitlement, Share
from router.rules.money.evidence import GROUP
from router.rules.money.postings import ACCOUNTS, COMMISSION, HELD
from router.rules.money.standing import refunds_of
from topics.commissions import PostingKind, PostingLine

Inputs = Mapping[str, Any]
Lines = tuple[PostingLine, ...]


class Moves(Protocol):
    """Of one kind of posting: from its ``inputs`` to its lines; ``of``: what those inputs entitle to."""

    def __call__(self, inputs: Inputs, of: Entitlement | None = None, /) -> Lines:
        """Work them out."""


def _base(inputs: Inputs, of: Entitlement | None = None) -> Lines:
    of, fen = of or Entitlement.of(inputs), inputs["order"]["commission_fen"]
    return _lines({(COMMISSION, GROUP, GROUP): -fen} | _pending(of.base(fen)))


def _overlay(inputs: Inputs, of: Entitlement | None = None) -> Lines:
    """None when the split changes nothing: there is no such posting then."""
    of, fen = of or Entitlement.of(inputs), inputs["order"]["commission_fen"]
    return _between(_pending(of.base(fen)), _pending(of.shared(fen)))


def _reversal(inputs: Inputs, of: Entitlement | None = None) -> Lines:
    """Of the base, or with ``held`` of the split: from where the money is then to where it belongs."""
    of = of or Entitlement.of(inputs)
    sold, refunds = inputs["order"]["commission_fen"], refunds_of(inputs)
    left = sold - sum(each.commission_fen for each in refunds)
    based = _between(
        _pending(of.base(left + refunds[-1].commission_fen)) | {(COMMISSION, GROUP, GROUP): 0},
        _pending(of.base(left)) | {(COMMISSION, GROUP, GROUP): refunds[-1].commission_fen},
    )
    if "held" not in inputs:
        return based or _lines({})
    before = {(account, role, party): fen for account, role, party, fen in inputs["held"]}
    now: dict[tuple[str, str, str], int] = defaultdict(int, before)
    for line in based:
        if line.account != COMMISSION:
            now[line.account, line.role, line.party] += line.fen
    wanted = {(role, party): fen for (_, role, party), fen in _pending(of.shared(left)).items()}
    then: dict[tuple[str, str, str], int] = {}
    gains = "earned" if inputs["vested"] else "pending"
    for role, party in dict.fromkeys([*((role, party) for _, role, party in before), *wanted]):
        mine = {account: before.get((account, role, party), 0) for account in ACCOUNTS[1:]}
        placed = _placed(mine, wanted.get((role, party), 0), gains)
        then |= {(account, role, party): fen for account, fen in placed.items()}
    return _between(now, then)


def _placed(mine: Mapping[str, int], wanted: int, gains: str) -> dict[str, int]:
    """Where the money of a party lies once it holds what it is entitled to in all."""
    out, less = dict(mine), sum(mine.values()) - wanted
    if less < 0:  # first it owes less, then it has more
        forgiven = min(-less, -out["receivable"])
        out["receivable"] += forgiven
        out[gains] += -less - forgiven
        return out
    for account in HELD:
        taken = min(less, max(out[account], 0))
        out[account] -= taken
        less -= taken
    out["receivable"] -= less  # it was paid, and is owed back
    return out


def _move(account: str, to: str) -> Moves:
    def lines(inputs: Inputs, _: Entitlement | None = None) -> Lines:
        moves: dict[tuple[str, str, str], int] = {}
        for role, party, fen in inputs["held"]:
            moves |= {(account, role, party): -fen, (to, role, party): fen}
        return _lines(moves)

    return lines


def _adjust(inputs: Inputs, _: Entitlement | None = None) -> Lines:
    return tuple(
        PostingLine(account=account, role=role, party=party, fen=fen)
        for account, role, party, fen in inputs["lines"]
    )


def _close(_: Inputs, __: Entitlement | None = None) -> Lines:
    return _lines({})


#: What each kind of posting moves.
LINES: dict[PostingKind, Moves] = {
    "base": _base,
    "overlay": _overlay,
    "reversal": _reversal,
    "vest": _move("pending", "earned"),
    "settle": _move("earned", "settled"),
    "pay": _move("settled", "paid"),
    "adjust": _adjust,
    "close": _close,
}


def _pending(shares: Iterable[Share]) -> dict[tuple[str, str, str], int]:
    out: dict[tuple[str, str, str], int] = defaultdict(int)
    for share in shares:
        out["pending", share.role, share.party] += share.fen
    return out


def _between(now: Mapping[tuple[str, str, str], int], then: Mapping[tuple[str, str, str], int]) -> Lines:
    """The moves that lead from one to the other; none where both are the same."""
    moves = {place: then.get(place, 0) - now.get(place, 0) for place in {**now, **then}}
    return _lines(moves) if any(moves.values()) else ()


def _lines(moves: Mapping[tuple[str, str, str], int]) -> Lines:
    """Lines in the order of their places; what moves nothing has two of nothing, to be in the book."""
    nothing = [((COMMISSION, GROUP, GROUP), 0)] * 2
    kept = sorted((place, fen) for place, fen in moves.items() if fen) or nothing
    return tuple(
        PostingLine(account=account, role=role, party=party, fen=fen) for (account, role, party), fen in kept
    )
