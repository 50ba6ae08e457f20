"""What follows in the book from a sale, a refund or a command: decisions as values, nothing is done here.

What a posting moves follows from its own ``inputs``, see ``router.rules.money.lines``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from router.rules.money.entitlement import Entitlement
from router.rules.money.evidence import REFUNDS_MAX, apart
from router.rules.money.lines import LINES, Inputs, Lines
from router.rules.money.postings import (
    ACCOUNTS,
    COMMISSION,
    Draft,
    Page,
    Seal,
    TooLargeError,
    drafted,
    identity,
    month_after,
)
from router.rules.money.standing import (
    PARKED_MAX,
    UNKNOWN,
    Parked,
    Refund,
    Standing,
    after,
    digest_of_sale,
)
from topics.commissions import LedgerCommand, Posting, PostingKind

Reason = Literal[
    "conflict", "refund_over_sale", "refund_without_sale", "command_refused", "too_large", "unknown"
]


@dataclass(frozen=True, slots=True)
class Change:
    """What follows for one order (or adjustment, under the id of its posting).

    ``inputs`` where they are new; ``again``: postings that were made before, whose bytes go out again;
    ``refused`` why nothing follows, ``parked`` the refunds that came before the order and do not fit it.
    """

    order_id: str
    standing: Standing
    postings: tuple[Draft, ...] = ()
    inputs: Inputs | None = None
    again: tuple[str, ...] = ()
    refused: tuple[Reason, str] | None = None
    parked: tuple[tuple[Parked, Reason, str], ...] = ()


def sell(page: Page, standing: Standing, inputs: Inputs) -> Change:
    """An order is paid: as the group settles today, then the split on top, then the refunds that came before.

    Raises:
        ValueError: naming the field of the inputs that is wrong.

    """
    sale, order_id = inputs["order"], inputs["order"]["order_id"]
    if standing.digest and standing.digest != digest_of_sale(sale):
        return Change(order_id, standing, refused=("conflict", f"order {order_id} has other content"))
    about = _About(page, order_id, sale["occurred_at_ms"], str(inputs["terms"]["version"]))
    of = Entitlement.of(inputs)
    drafts = [about.post("base", inputs, (page.brand, order_id), lines=LINES["base"](inputs, of))]
    lines = LINES["overlay"](inputs, of)
    over = [about.post("overlay", inputs, (page.brand, order_id), lines=lines)] if lines else []
    if standing.digest:
        # whoever died may have published the base alone, and then Redis has lost the rest
        halfway = not standing.refunds and standing.held == _with(UNKNOWN, drafts).held
        over = over if halfway else []
        again = _ids_of(page.brand, order_id, standing)
        return Change(order_id, _with(standing, over), tuple(over), again=again)
    drafts += over
    made = Change(order_id, _with(standing, drafts), tuple(drafts), inputs)
    for parked in standing.parked:
        try:
            told = parked.refund, parked.occurred_at_ms, parked.member_id
            back = give_back(page, made.standing, inputs, *told, of)
        except TooLargeError as error:  # the sale is good, whatever waited for it
            back = Change(order_id, made.standing, refused=("too_large", str(error)))
        bad = ((parked, *back.refused),) if back.refused else ()
        made = Change(
            order_id, back.standing, made.postings + back.postings, inputs, parked=made.parked + bad
        )
    return Change(order_id, replace(made.standing, parked=()), made.postings, inputs, parked=made.parked)


def give_back(  # noqa: PLR0913, PLR0917 - where and to what, then the refund as it was told
    page: Page,
    standing: Standing,
    inputs: Inputs,
    refund: Refund,
    at_ms: int,
    member_id: str,
    of: Entitlement | None = None,
) -> Change:
    """A part of a sale that is in the book is given back: one reversal of the base, one of the split.

    Whether it came before the sale or after it, it has to be of the member who bought. ``of``: what the
    inputs entitle to, from whoever has read them.

    Raises:
        ValueError: naming the field of the inputs that is wrong.

    """
    sale, order_id, brand = inputs["order"], inputs["order"]["order_id"], page.brand
    if not page.same(member_id, sale["member_id"]):
        detail = f"member_id: order {order_id} was sold to somebody else"
        return Change(order_id, standing, refused=("conflict", detail))
    known = {each.refund_id: each for each in standing.refunds}
    if (before := known.get(refund.refund_id)) is not None:
        if before != refund:
            return Change(order_id, standing, refused=("conflict", _other(refund)))
        # as with a sale, the reversal of the split may have been lost, if it is the last of its order
        over = _lost_split(page, standing, inputs, at_ms) if refund == standing.refunds[-1] else []
        again = _ids_of_refund(brand, order_id, refund.refund_id)
        return Change(order_id, _with(standing, over), tuple(over), again=again)
    refunds = (*standing.refunds, refund)
    if len(refunds) > REFUNDS_MAX:
        detail = f"refund_id {refund.refund_id}: order {order_id} has {REFUNDS_MAX} refunds already"
        return Change(order_id, standing, refused=("refund_over_sale", detail))
    for name in ("commission_fen", "amount_fen"):
        back = sum(getattr(each, name) for each in refunds)
        if back > sale[name]:
            detail = f"refund_id {refund.refund_id}: {back} of {sale[name]} {name} would be given back"
            return Change(order_id, standing, refused=("refund_over_sale", detail))
    drafts = _reversals(page, inputs, refunds, standing, at_ms, of or Entitlement.of(inputs))
    return Change(order_id, _with(standing, drafts), tuple(drafts))


def holds(standing: Standing, inputs: Inputs, of: Entitlement | None = None) -> str | None:
    """Who does not hold what they are entitled to of what remains of a sale; None if everybody does."""
    left = inputs["order"]["commission_fen"] - sum(each.commission_fen for each in standing.refunds)
    of = of or Entitlement.of(inputs)
    entitled = {(share.role, share.party): share.fen for share in of.shared(left)}
    held: dict[tuple[str, str], int] = defaultdict(int)
    for _, role, party, fen in standing.held:
        held[role, party] += fen
    for role, party in sorted({**entitled, **held}):
        has, should = held.get((role, party), 0), entitled.get((role, party), 0)
        if has != should:
            return f"{party} ({role}) has {has} fen, not {should}"
    return None


def _reversals(  # noqa: PLR0913, PLR0917 - as ``give_back``
    page: Page, inputs: Inputs, refunds: Sequence[Refund], standing: Standing, at_ms: int, of: Entitlement
) -> list[Draft]:
    """Of the base and of the split, for the last of the refunds; ``standing``: before it."""
    order_id, brand = inputs["order"]["order_id"], page.brand
    carried = _carried(brand, inputs, refunds)
    based, over = carried["of"]
    about = _About(page, order_id, at_ms, str(inputs["terms"]["version"]))
    cause = (brand, order_id, refunds[-1].refund_id)
    lines = LINES["reversal"](carried, of)
    drafts = [about.post("reversal", carried, (*cause, "base"), lines=lines, reverses=based)]
    carried |= {"held": [list(row) for row in standing.held], "vested": bool(standing.vested)}
    if lines := LINES["reversal"](carried, of):
        drafts.append(about.post("reversal", carried, (*cause, "overlay"), lines=lines, reverses=over))
    return drafts


def _carried(brand: str, inputs: Inputs, refunds: Sequence[Refund]) -> dict[str, Any]:
    """What the reversal of the base says beside the inputs of the sale."""
    order_id = inputs["order"]["order_id"]
    return dict(inputs) | {
        "of": [identity("base", brand, order_id), identity("overlay", brand, order_id)],
        "refunds": [[each.refund_id, each.commission_fen] for each in refunds],
        "refunded_fen": [each.amount_fen for each in refunds],
    }


def _lost_split(page: Page, standing: Standing, inputs: Inputs, at_ms: int) -> list[Draft]:
    """The reversal of the split of the last refund, if of its two the book has that of the base alone."""
    of = Entitlement.of(inputs)
    if not holds(standing, inputs, of):
        return []
    held = defaultdict(int, {(where, role, party): fen for where, role, party, fen in standing.held})
    for line in LINES["reversal"](_carried(page.brand, inputs, standing.refunds), of):
        if line.account != COMMISSION:
            held[line.account, line.role, line.party] -= line.fen
    rows = tuple((*place, fen) for place, fen in sorted(held.items()) if fen)
    before = replace(standing, held=rows, refunds=standing.refunds[:-1])
    if holds(before, inputs, of):
        return []  # something else is missing
    return _reversals(page, inputs, standing.refunds, before, at_ms, of)[1:]


def park(order_id: str, standing: Standing, parked: Parked) -> Change:
    """A refund came before its order: it waits there."""
    refund = parked.refund
    known = {each.refund.refund_id: each.refund for each in standing.parked}
    if refund.refund_id not in known and len(known) >= PARKED_MAX:
        detail = f"order {order_id} has not come, and {PARKED_MAX} refunds wait for it already"
        return Change(order_id, standing, refused=("refund_without_sale", detail))
    if refund.refund_id not in known:
        return Change(order_id, replace(standing, parked=(*standing.parked, parked)))
    refused: tuple[Reason, str] = ("conflict", _other(refund))
    return Change(order_id, standing, refused=refused if known[refund.refund_id] != refund else None)


def vest(page: Page, order_id: str, standing: Standing, parties: Inputs, at_ms: int) -> Change:
    """The rights window is over: what is pending is earned. Or no order came: its refunds wait no more."""
    if late := [each for each in standing.parked if each.until_ms <= at_ms]:
        why: tuple[Reason, str] = ("refund_without_sale", f"order {order_id} did not come in time")
        waits = tuple(each for each in standing.parked if each not in late)
        parked = tuple((each, *why) for each in late)
        return Change(order_id, replace(standing, parked=waits), parked=parked)
    if not standing.digest or standing.vested or standing.frozen:
        return Change(order_id, standing, again=(identity("vest", page.brand, order_id),))
    if at_ms < standing.vests_ms:
        detail = f"order {order_id} vests at {standing.vests_ms}, not at {at_ms}"
        return Change(order_id, standing, refused=("command_refused", detail))
    inputs = _moving(standing.at("pending"), parties)
    draft = _About(page, order_id, at_ms).post("vest", inputs, (page.brand, order_id))
    return Change(order_id, _with(standing, [draft]), (draft,))


def settle(page: Page, order_id: str, standing: Standing, parties: Inputs, command: LedgerCommand) -> Change:
    """At the close of a period: what was earned until then is settled in it."""
    period = command.period or ""
    earned = standing.at("earned")
    if standing.frozen or not earned or not standing.vested <= period >= page.since:
        return Change(order_id, standing)
    about = _About(page, order_id, command.occurred_at_ms, command=command, period=period)
    draft = about.post("settle", _moving(earned, parties), (page.brand, order_id, period))
    return Change(order_id, _with(standing, [draft]), (draft,))


def pay(page: Page, order_id: str, standing: Standing, parties: Inputs, command: LedgerCommand) -> Change:
    """What was settled until the end of a period is paid, to all or to those the command names.

    But for what takes something off: that comes after all else, see ``take_off``.
    """
    return _paid(page, order_id, standing, parties, command, less=False)


def take_off(
    page: Page, order_id: str, standing: Standing, parties: Inputs, command: LedgerCommand
) -> Change:
    """What was adjusted downwards goes off what was paid."""
    return _paid(page, order_id, standing, parties, command, less=True)


def _paid(  # noqa: PLR0913 - as ``pay``, and which of both
    page: Page, order_id: str, standing: Standing, parties: Inputs, command: LedgerCommand, *, less: bool
) -> Change:
    named = {(line.role, line.party) for line in command.lines}
    owed = tuple(row for row in standing.at("settled") if not named or row[:2] in named)
    takes_off = any(fen < 0 for *_, fen in owed)
    if standing.frozen or not owed or standing.settled > (command.period or "") or takes_off != less:
        return Change(order_id, standing)
    about = _About(page, order_id, command.occurred_at_ms, command=command)
    inputs = _moving(owed, parties) | {"command_id": command.command_id}
    draft = about.post("pay", inputs, (page.brand, order_id, command.command_id))
    return Change(order_id, _with(standing, [draft]), (draft,))


def adjust(
    page: Page, standing: Standing, command: LedgerCommand, parties: Inputs, check_above_fen: int
) -> Change:
    """A correction by hand: with a reason, and above a limit with a second person."""
    name = identity("adjust", page.brand, command.command_id)
    lines = [[line.account, line.role, line.party, line.fen] for line in command.lines]
    inputs: dict[str, Any] = {"lines": lines, "parties": dict(parties), "command_id": command.command_id}
    inputs["ledger_utc_offset_h"] = page.utc_offset_h
    if command.order_id is not None:
        inputs["about"] = command.order_id
    trouble = _trouble(command, check_above_fen)
    if trouble is not None:
        return Change(name, standing, refused=("command_refused", trouble))
    about = _About(page, name, command.occurred_at_ms, command=command)
    draft = about.post("adjust", inputs, (page.brand, command.command_id))
    if standing.digest:
        same = standing.digest == after(UNKNOWN, draft.posting).digest
        refused: tuple[Reason, str] = ("conflict", f"command_id {command.command_id} has other content")
        return Change(name, standing, again=(name,), refused=None if same else refused)
    return Change(name, _with(UNKNOWN, [draft]), (draft,), inputs)


def freeze(order_id: str, standing: Standing, *, frozen: bool) -> Change:
    """A dispute stops the way of an order's money until it is released; what is given back goes back.

    It may come before its order, which then is frozen as it comes.
    """
    return Change(order_id, replace(standing, frozen=frozen))


def close(page: Page, seal: Seal, command: LedgerCommand) -> Draft:
    """The posting that seals a period; it is the first of the period after it."""
    inputs = {
        "period": seal.period,
        "count": seal.count,
        "sum_fen": seal.sum_fen,
        "last_seq": seal.last_seq,
        "chain": seal.chain,
    }
    following = month_after(seal.period)
    about = _About(page, None, command.occurred_at_ms, command=command, period=following)
    return about.post("close", inputs, (page.brand, seal.period))


def _ids_of(brand: str, order_id: str, standing: Standing) -> tuple[str, ...]:
    """The postings that an order's own records have made, as far as they were made."""
    refunds = [_ids_of_refund(brand, order_id, each.refund_id) for each in standing.refunds]
    sale = (identity("base", brand, order_id), identity("overlay", brand, order_id))
    return (*sale, *(name for names in refunds for name in names))


def _ids_of_refund(brand: str, order_id: str, refund_id: str) -> tuple[str, ...]:
    return tuple(identity("reversal", brand, order_id, refund_id, of) for of in ("base", "overlay"))


def _other(refund: Refund) -> str:
    return f"refund_id {refund.refund_id} has other content"


def _trouble(command: LedgerCommand, check_above_fen: int) -> str | None:
    if not command.reason or not command.reason.strip():
        return "reason: an adjustment needs one"
    if sum(line.fen for line in command.lines) or not any(line.fen for line in command.lines):
        return "lines: must move something and sum to zero"
    if bad := next((line.account for line in command.lines if line.account not in ACCOUNTS), None):
        return f"lines: {bad!r:.80} is none of {', '.join(ACCOUNTS)}"
    if any(line.account in {"pending", "paid"} for line in command.lines):
        return "lines: nothing is pending but sales, and what was paid stays paid"
    moved = sum(line.fen for line in command.lines if line.fen > 0)
    if moved > check_above_fen and command.checker in {None, command.actor}:
        return f"checker: {moved} fen is above {check_above_fen} and needs somebody else than the actor"
    return None


@dataclass(frozen=True, slots=True)
class _About:
    """What the postings of one cause have in common."""

    page: Page
    order_id: str | None
    at_ms: int
    rule_version: str = ""
    command: LedgerCommand | None = None
    period: str = ""

    def post(
        self,
        kind: PostingKind,
        inputs: Inputs,
        cause: Sequence[str],
        *,
        lines: Lines | None = None,
        reverses: str | None = None,
    ) -> Draft:
        made, command = lines if lines is not None else LINES[kind](inputs), self.command
        return drafted(
            Posting(
                posting_id=identity(kind, *cause),
                book_seq=0,
                brand=self.page.brand,
                kind=kind,
                period=self.period or self.page.period(self.at_ms),
                occurred_at_ms=self.at_ms,
                lines=made,
                rule_version=self.rule_version,
                inputs=dict(inputs),
                order_id=self.order_id,
                reverses=reverses,
                actor=None if command is None else command.actor,
                checker=None if command is None else command.checker,
                reason=None if command is None else command.reason,
            )
        )


def _with(standing: Standing, drafts: Iterable[Draft]) -> Standing:
    for draft in drafts:
        standing = after(standing, draft.posting)
    return standing


def _moving(held: Sequence[tuple[str, str, int]], parties: Inputs) -> dict[str, Any]:
    """Only the parties that it is about: the posting is small."""
    named = {name for role, party, _ in held for name in (party, apart(role, party))}
    about = {name: told for name, told in parties.items() if name in named}
    return {"held": [list(row) for row in held], "parties": about}
