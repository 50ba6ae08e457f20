"""Who is responsible for a member: a contract, worked out from what was said about it.

What was said are facts, and the contract follows from the set of them in the order in which they happened:
so repeats change nothing and any order of arrival ends at the same contract. Only the newest facts of a
member are kept; what is older counts no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from topics.bindings import Binding, BindingKind

DAY_MS = 86_400_000
#: A member can be moved so often in so long. The limits are WeCom's, not a brand's: they are no policy.
TRANSFERS_MAX, TRANSFERS_SPAN_MS = 2, 90 * DAY_MS
#: How many facts of a member are kept that say who owns, and how many others.
FACTS_MAX = 16
_OWNING: frozenset[BindingKind] = frozenset({"bind", "unbind", "transfer_done"})


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """A binding without whom it is about."""

    at_ms: int
    command_id: str
    kind: BindingKind
    guide_id: str | None = None
    to_guide_id: str | None = None
    until_ms: int | None = None
    share_bp: int | None = None
    reason: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def to(self) -> str:
        """Whom a loan or a transfer goes to; the one guide that is named, if only one is."""
        return self.to_guide_id or self.guide_id or ""


class Loan(NamedTuple):
    """Somebody else serves the member, until it ends by itself or is returned."""

    to: str
    at_ms: int
    until_ms: int | None
    share_bp: int | None = None


class Transfer(NamedTuple):
    """A hard transfer that was started; who is responsible stays so until it is done."""

    to: str
    started_ms: int


@dataclass(frozen=True, slots=True)
class Contract:
    """``owner`` is '' where nobody is bound: the member then is in the brand's own queue.

    ``since_ms`` since when it is so, -1 for ever, by which ``reason`` and ``evidence``; ``spent_ms`` when
    hard transfers were started or made, but for those vetoed; ``refused`` the commands over their budget.
    """

    facts: tuple[Fact, ...] = ()
    owner: str = ""
    since_ms: int = -1
    reason: str = ""
    evidence: tuple[str, ...] = ()
    loan: Loan | None = None
    transfer: Transfer | None = None
    spent_ms: tuple[int, ...] = ()
    refused: frozenset[str] = frozenset()


def fact_of(binding: Binding) -> Fact:
    """What a binding says."""
    return Fact(
        binding.occurred_at_ms,
        binding.command_id,
        binding.kind,
        binding.guide_id,
        binding.to_guide_id,
        binding.until_ms,
        binding.share_bp,
        binding.reason or "",
        binding.evidence,
    )


def follow(held: Contract, news: Iterable[Fact]) -> Contract:
    """The contract with these facts; ``refused`` names those over the budget, which change nothing else."""
    facts: dict[str, Fact] = {}
    for fact in (*held.facts, *news):
        known = facts.get(fact.command_id)
        # the same id with other content is an error of the sender: one of the two is taken, always the same
        if known is None or _order(fact) < _order(known):
            facts[fact.command_id] = fact
    made = _contract(facts.values())
    owning = [fact for fact in made.facts if fact.kind in _OWNING]
    others = [fact for fact in made.facts if fact.kind not in _OWNING]
    if max(len(owning), len(others)) <= FACTS_MAX:
        return made
    return replace(_contract([*owning[-FACTS_MAX:], *others[-FACTS_MAX:]]), refused=made.refused)


def _order(fact: Fact) -> tuple[int, str, bytes]:
    return fact.at_ms, fact.command_id, msgspec.json.encode(fact)


def _contract(facts: Iterable[Fact]) -> Contract:
    made = Contract(tuple(sorted(facts, key=_order)))
    for fact in made.facts:
        made = _RULES[fact.kind](made, fact)
    return made


def _bind(held: Contract, fact: Fact) -> Contract:
    return _owned(held, fact, fact.guide_id or fact.to)


def _unbind(held: Contract, fact: Fact) -> Contract:
    """One that names a guide ends that guide's contract only: the member may have found another since."""
    return _owned(held, fact, "") if fact.guide_id in {None, held.owner} else held


def _owned(held: Contract, fact: Fact, owner: str) -> Contract:
    """A new owner is not bound by what the one before had lent."""
    return replace(
        held,
        owner=owner,
        since_ms=fact.at_ms,
        reason=fact.reason,
        evidence=fact.evidence,
        loan=held.loan if owner == held.owner else None,
    )


def _lend(held: Contract, fact: Fact) -> Contract:
    """Only who owns can lend."""
    lender = (fact.guide_id if fact.to_guide_id else None) or held.owner
    if not held.owner or lender != held.owner:
        return held
    return replace(held, loan=Loan(fact.to, fact.at_ms, fact.until_ms, fact.share_bp))


def _return(held: Contract, _: Fact) -> Contract:
    return replace(held, loan=None)


def _transfer_started(held: Contract, fact: Fact) -> Contract:
    made = _spend(held, fact)
    pending = Transfer(fact.to, fact.at_ms)
    return made if fact.command_id in made.refused else replace(made, transfer=pending)


def _transfer_done(held: Contract, fact: Fact) -> Contract:
    """The end of what was started, or a transfer whose start nobody told."""
    made = _spend(held, fact) if held.transfer is None else replace(held, transfer=None)
    return made if fact.command_id in made.refused else _owned(made, fact, fact.to)


def _transfer_vetoed(held: Contract, _: Fact) -> Contract:
    """What the customer vetoes was no transfer, so it spends nothing."""
    return held if held.transfer is None else replace(held, transfer=None, spent_ms=held.spent_ms[:-1])


def _spend(held: Contract, fact: Fact) -> Contract:
    recent = sum(fact.at_ms - at_ms < TRANSFERS_SPAN_MS for at_ms in held.spent_ms)
    if recent >= TRANSFERS_MAX:
        return replace(held, refused=held.refused | {fact.command_id})
    return replace(held, spent_ms=(*held.spent_ms, fact.at_ms))


_RULES: dict[BindingKind, Callable[[Contract, Fact], Contract]] = {
    "bind": _bind,
    "unbind": _unbind,
    "lend": _lend,
    "return": _return,
    "transfer_started": _transfer_started,
    "transfer_done": _transfer_done,
    "transfer_vetoed": _transfer_vetoed,
}
