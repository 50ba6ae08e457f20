"""What the book says, in plain words on a terminal; and a statement as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from router.commission.reading import Verified
from router.rules.money.proof import IdleRow, Proof
from router.rules.money.statement import CALLED, PLACES, Balance, Line, Statement, date
from router.rules.money.story import Entry, Holding, Part, Story

#: The columns of a statement's CSV: amounts in fen.
COLUMNS = (
    *("order_id", "kind", "role", "at_utc", "period", "sold_fen", "back_fen", "moved_fen"),
    *(f"{place}_fen" for place in PLACES),
    *("state", "disputed", "not_yet", "why"),
)


def yuan(fen: int) -> str:
    """Fen as yuan with two decimals."""
    return f"{'-' * (fen < 0)}{abs(fen) // 100:,}.{abs(fen) % 100:02}"


def story(told: Story) -> list[str]:
    """One screen about an order."""
    order, terms = told.order, told.terms
    rule = terms["rule"]
    where = [
        f"{name} {order[key]}"
        for name, key in (
            ("member", "member_id"), ("at store", "store_id"), ("served by", "served_by"),
            ("lead", "lead_id"), ("price zone", "price_zone"), ("channel", "channel"),
        )
        if order.get(key) is not None
    ]  # fmt: skip
    where += [f"{name} {text}" for name, text in (order.get("source") or {}).items() if text]
    days = terms["rights_days"]
    out = [
        f"order {order['order_id']} of brand {told.brand}, paid {date(order['occurred_at_ms'])}",
        f"  sale {yuan(order['amount_fen'])} yuan, commission {yuan(order['commission_fen'])} yuan",
        *([f"  {', '.join(where)}"] if where else []),
        f"  shared by rule {rule['name']} ({rule['kind']}) of policy version {terms['version']}",
        f"  can be given back for {days} days, until {date(told.vests_ms)}",
        "",
        "as the group settles today (the base)",
        *_table(map(_part, told.base)),
        "after the split (the overlay)",
        *_table(map(_part, told.shared)),
    ]
    if told.refunds:
        out += ["given back"]
        out += _table(
            (f"refund {each.refund_id}", date(each.at_ms), yuan(each.commission_fen),
             f"of the commission, with {yuan(each.amount_fen)} of the sale")
            for each in told.refunds
        )  # fmt: skip
        out += [f"  {yuan(told.remaining_fen)} yuan of commission remain"]
    out += ["now", *_table(map(_holding, told.now))]
    if told.dispute is not None:
        why = f": {told.dispute.reason}" if told.dispute.reason else ""
        out += [f"  frozen: disputed by {told.dispute.actor} on {date(told.dispute.at_ms)}{why}"]
    head = ("number", "posting", "kind", "period", "at", "yuan", "")
    out += ["postings; times are UTC, a period is a month by the clock of the book (ledger_utc_offset_h)"]
    out += _table([head, *map(_entry, told.postings)])
    return [*map(plain, out), *(plain(f"WRONG: {fault}") for fault in told.faults)]


def _part(each: Part) -> tuple[str, ...]:
    return (f"{each.party} ({each.role})", yuan(each.fen), each.why)


def _holding(each: Holding) -> tuple[str, ...]:
    return (f"{each.party} ({each.role})", yuan(each.balance.kept), _where(each.balance), each.not_yet)


def _where(held: Balance) -> str:
    """What lies where; the amount only where it is not all of it."""
    places = [place for place in PLACES if getattr(held, place)]
    if len(places) == 1 and places[0] != "receivable":
        return places[0]
    told = [f"{yuan(getattr(held, place))} {CALLED.get(place, place)}" for place in places]
    return ", ".join(told) or "nothing"


def _entry(each: Entry) -> tuple[str, ...]:
    moved = sum(line.fen for line in each.lines if line.fen > 0)
    brought: Counter[str] = Counter()
    for line in each.lines:
        brought[line.party] += line.fen
    givers, takers = (
        ", ".join(sorted(party for party, fen in brought.items() if fen * sign > 0)) for sign in (-1, 1)
    )
    notes = [
        f"from {givers} to {takers}" if givers else "",
        f"reverses {each.reverses}" if each.reverses else "",
        f"by {each.actor}" if each.actor else "",
        f"checked by {each.checker}" if each.checker else "",
        f"because {each.reason}" if each.reason else "",
    ]
    where = (str(each.book_seq), each.posting_id, each.kind, each.period, date(each.at_ms))
    return (*where, yuan(moved), ", ".join(filter(None, notes)))


def statement(told: Statement) -> list[str]:
    """A statement as tables, with totals."""
    until = f"until the end of {told.period}" if told.period else "all there is"
    is_open = f"; the first open period is {told.open_period}" if told.open_period else ""
    out = [f"{told.party} ({' and '.join(told.of)}) of brand {told.brand}: {until}{is_open}"]
    head = ("order", "role", "date", "brought" if told.period else "in all", "where", "")
    if told.lines:
        out += _table([head, *map(_line, told.lines)])
        out += ["totals", *_totals(told.total.moved_fen, told.total.balance, told.period)]
    if told.parties:
        rows = [(each.party, *_amounts(each.balance)) for each in told.parties]
        everybody = ("together", *_amounts(told.parties_total.balance))
        called = [CALLED.get(place, place) for place in PLACES]
        out += [f"everybody of {' and '.join(kind for kind in told.of if kind != 'party')} {told.party}"]
        out += _table([("party", *called), *rows, everybody])
    return [plain(each) for each in out]


def _line(each: Line) -> tuple[str, ...]:
    note = each.not_yet or each.state
    if each.back_fen:
        note += f"; {yuan(each.back_fen)} of {yuan(each.sold_fen)} commission was given back"
    if each.kind == "adjustment":
        note += f"; {each.why}"
    where = _where(each.balance)
    return (each.order_id, each.role, date(each.at_ms), yuan(each.moved_fen), where, note)


def _totals(moved_fen: int, held: Balance, period: str | None) -> list[str]:
    rows = [(f"brought by {period}", yuan(moved_fen))] if period else []
    rows += [(CALLED.get(place, place), yuan(getattr(held, place))) for place in PLACES]
    return _table([*rows, ("all together", yuan(held.kept))])


def _amounts(held: Balance) -> tuple[str, ...]:
    return tuple(yuan(getattr(held, place)) for place in PLACES)


def statement_csv(told: Statement) -> str:
    """The lines of a statement, amounts in fen."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in told.lines:
        what = (each.order_id, each.kind, each.role, date(each.at_ms), each.period)
        fens = (
            each.sold_fen,
            each.back_fen,
            each.moved_fen,
            *(getattr(each.balance, name) for name in PLACES),
        )
        texts = (each.state, "yes" if each.disputed else "no", each.not_yet, each.why)
        writer.writerow([*map(_cell, what), *fens, *map(_cell, texts)])
    return out.getvalue()


def _cell(text: str) -> str:
    """No sheet takes it for a formula."""
    made = plain(text)
    return f"'{made}" if made.startswith(("=", "+", "-", "@")) else made


def proof(told: Proof) -> list[str]:
    """Base totals with and without the overlay, and the verdict."""
    head = ("party", "without the split", "base in the book", "difference", "the split adds")
    rows = [
        (f"{row.party} ({row.role})", *map(yuan, (row.without, row.book, row.difference, row.overlay)))
        for row in told.rows
    ]
    paid = told.group_book - told.group_without
    group = ("the group pays", *map(yuan, (told.group_without, told.group_book, paid, told.overlay)))
    verdict = "ok, the group's own settlement is the same with and without the split, to the fen"
    if not told.ok:
        verdict = f"FAILED, {yuan(told.difference)} yuan differ, the split comes to {yuan(told.overlay)}"
    return [
        plain(each)
        for each in (
            f"brand {told.brand}, period {told.period}: {told.sales:,} sales, {told.refunds:,} refunds",
            *_table([head, *rows, group]),
            f"prove: {verdict}",
            *(f"  {fault}" for fault in told.faults),
        )
    ]


def idle(rows: Sequence[IdleRow]) -> list[str]:
    """Income without action, with its sum."""
    head = ("guide", "region", "today", "after the split")
    found = [(row.guide, row.region, yuan(row.today), yuan(row.split)) for row in rows]
    both = (sum(row.today for row in rows), sum(row.split for row in rows))
    return [plain(each) for each in _table([head, *found, ("together", "", *map(yuan, both))])]


def verified(told: Verified) -> list[str]:
    """What was counted, then every difference."""
    out = []
    for brand, each in told.brands.items():
        closed = ", ".join(
            f"{seal.period} ({seal.count:,} postings, {seal.chain[:12]}…)" for seal in each.seals
        )
        out.append(
            f"brand {brand}: {each.postings:,} postings, accounts come to {yuan(each.imbalance_fen)}, "
            f"closed: {closed or 'nothing yet'}"
        )
    out += [f"  {each.brand or '?'} posting {each.posting_id or '-'}: {each.what}" for each in told.faults]
    out += [f"  {key}: {what}" for key, what in (told.redis or {}).items()]
    count = sum(each.postings for each in told.brands.values())
    with_redis = (
        "not compared, LEAD_ROUTER_REDIS_URL is not set" if told.redis is None else "as the book says"
    )
    if told.ok:
        out.append(f"verify: ok, {count:,} postings worked out again, difference zero; redis: {with_redis}")
    else:
        keys = f", {len(told.redis):,} keys of redis" if told.redis else ""
        out.append(f"verify: FAILED, {len(told.faults):,} differences in {count:,} postings{keys}")
    if told.moving:
        out.append(
            "redis holds postings that the log did not have: let the workers be idle, then run it again"
        )
    return [plain(each) for each in out]


def plain(text: str) -> str:
    """Text from outside stays on its line and moves no cursor."""
    return "".join(c if c.isprintable() else " " for c in text).rstrip()


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be, amounts to the right."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[-1:] = [widths[-1] if _is_amount(cells[-1][-1]) else 0] if widths else []
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if _is_amount(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _is_amount(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").lstrip("-").isdigit()
