"""Orders with refunds through the pure core of commission: ``make bench-money ARGS="--orders N --seed N"``.

A tenth of the orders also goes on to postings as they are published (``router.rules.money.entries``):
``book_unbalanced`` counts those that do not sum to zero, and orders of which somebody holds another
amount than what is theirs.

Of the pure core printed are the postings that do not balance (none), how far the worst party is off its
exact entitlement, and postings per second of CPU time beside a naive implementation: the same rules,
then ``Decimal`` shares rounded half up and the odd fen to the first who is listed. The exact entitlement
is kept in fen / 2**96.

``--redis-orders`` go through the real ledger and its scripts on a server of their own, and through a naive
one beside it, see ``bench.ledger``; none with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from bench import ledger
from bench.figures import Figure, append
from bench.ledger import decimal_shares
from router.rules.money.allotment import Lot
from router.rules.money.entitlement import Entitlement
from router.rules.money.entries import give_back, holds, sell
from router.rules.money.postings import Page
from router.rules.money.standing import UNKNOWN, Refund
from scoring.policy import parse
from topics.orders import Order

RESULTS = Path(__file__).parent / "results" / "money.jsonl"
DAY_MS, NOW_MS = 86_400_000, 1_700_000_000_000
GUIDES = [f"guide{number}" for number in range(10)]
STORES = ("store0", "store1")
#: Few prices, as in a shop: with many different ones any rounding looks fair.
COMMISSIONS_FEN = (990, 3_333, 4_999, 9_990, 12_800, 29_999)
PARTIES: dict[str, Any] = {
    **{guide: {"store_id": STORES[row % 2], "region": "east"} for row, guide in enumerate(GUIDES)},
    **{f"boss{row}": {"kind": "manager", "store_id": store} for row, store in enumerate(STORES)},
    "mall": {"kind": "ecommerce"},
    "flat": {"kind": "partner"},
}
POLICY = """
[[commission.splits]]
name = "stream"
kind = "fixed_by_role"
channels = ["live"]
shares = { server = 4000, owner = 2500, sharer = 1500, store = 1000, manager = 1000 }
unclaimed = ["store"]
[[commission.splits]]
name = "joint"
kind = "fixed_by_role"
partners = ["flat"]
shares = { server = 5000, owner = 1000, partner = 2000, manager = 500 }
"""
_SCALE = 96

Key = tuple[str, str]


class Run(NamedTuple):
    """What came of it; all by (role, party): what they hold, how far that is off, in how many sales."""

    orders: int
    postings: int
    unbalanced: int
    cpu_s: float
    naive_cpu_s: float
    held_fen: Counter[Key]
    drift_fen: dict[Key, float]
    naive_drift_fen: dict[Key, float]
    parts: Counter[Key]

    def worst_ppm(self, *, naive: bool = False) -> tuple[float, str]:
        """The party that is farthest off, over all its roles, and how far."""
        drifts: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for (role, party), drift in (self.naive_drift_fen if naive else self.drift_fen).items():
            drifts[party] += drift  # type: ignore[assignment]
            held[party] += self.held_fen[role, party]
        return max((abs(drifts[party]) / held[party] * 1e6, party) for party in held if held[party])


def sales(orders: int, seed: int) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Inputs of postings, and how much of each commission is given back in which steps."""
    random, commission = Random(seed), parse(POLICY, 1).commission  # noqa: S311 - no secret
    frozen: dict[tuple[str, str], Any] = {}
    for number in range(orders):
        channel = random.choice(("live", "shop", "shop"))
        partner = random.choice(("flat", "", "", ""))
        if (channel, partner) not in frozen:
            asked = {"channel": channel, "source": {"partner": partner} if partner else {}}
            frozen[channel, partner] = asked, _terms(commission, asked)
        asked, terms = frozen[channel, partner]
        fen = random.choice(COMMISSIONS_FEN)
        order = {"order_id": f"o{seed}-{number}", "member_id": f"m{number % 9973}", "occurred_at_ms": NOW_MS}
        order |= {"amount_fen": 20 * fen, "commission_fen": fen, "store_id": random.choice(STORES)} | asked
        owner, server, helper = random.sample(GUIDES, 3)
        evidence = [("binding", owner, 60), ("accepted", server, 3), ("visit", server, 0)]
        evidence += [("live", helper, 2)] * random.randint(0, 1) + [("share", helper, 1)] * random.randint(
            0, 1
        )
        evidence += [("origin", "mall", 90)] * random.randint(0, 1)
        back = []
        if random.random() < 0.2:  # noqa: PLR2004 - a fifth is given back, half of that whole
            back = [random.randint(0, fen)]
            back.append(fen - sum(back) if random.random() < 0.5 else random.randint(0, fen - sum(back)))  # noqa: PLR2004
        yield (
            {
                "order": order | {"served_by": server},
                "terms": terms,
                "evidence": [
                    {"kind": kind, "id": f"e{row}", "party": party, "at_ms": NOW_MS - days * DAY_MS}
                    for row, (kind, party, days) in enumerate(evidence)
                ],
                "parties": PARTIES,
            },
            back,
        )


def _terms(commission: Any, asked: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    raw = {"order_id": "o", "member_id": "m", "brand": "b", "occurred_at_ms": 0, "status": "paid"}
    order = msgspec.convert(raw | {"amount_fen": 0, "commission_fen": 0} | asked, Order)
    return msgspec.to_builtins(commission.terms(order, 1))


def run(orders: int, seed: int) -> Run:
    """Post base, overlay and a reversal for each refund; tell what is not balanced and how far all is off."""
    postings = unbalanced = 0
    cpu_s = naive_cpu_s = 0.0
    held: Counter[Key] = Counter()
    naive: Counter[Key] = Counter()
    entitled: Counter[Key] = Counter()
    parts: Counter[Key] = Counter()
    for inputs, back in sales(orders, seed):
        amounts = [inputs["order"]["commission_fen"]]
        for fen in back:
            amounts.append(amounts[-1] - fen)
        began = time.process_time()
        split = Entitlement.of(inputs)
        (settled,), lot = split.base(amounts[0]), split.lot
        ruled = time.process_time()
        keys, steps = lot.keys, [lot.of(fen) for fen in amounts]
        overlay = dict(zip(keys, steps[0], strict=True))
        key = (settled.role, settled.party)
        overlay[key] = overlay.get(key, 0) - settled.fen
        lines = [list(overlay.values())]
        lines += [[new - old for old, new in zip(*pair, strict=True)] for pair in pairwise(steps)]
        done = time.process_time()
        weights = lot.weights
        naively = [decimal_shares(fen, weights, lot.total) for fen in amounts]
        naive_cpu_s += time.process_time() - done + ruled - began
        done = time.process_time()
        Lot(dict(zip(keys, weights, strict=True)), inputs["order"]["order_id"])
        naive_cpu_s -= time.process_time() - done  # who needs no lot draws none
        cpu_s += done - began
        postings += 1 + len(lines)
        unbalanced += sum(
            sum(line) != -fen or min(step) < 0
            for line, fen, step in zip(lines, [0, *back], steps, strict=True)
        )
        for row, key in enumerate(keys):
            held[key] += steps[-1][row]
            naive[key] += naively[-1][row]
            entitled[key] += (amounts[-1] * weights[row] << _SCALE) // lot.total
            parts[key] += 1
    return Run(
        orders,
        postings,
        unbalanced,
        cpu_s,
        naive_cpu_s,
        held,
        _off(held, entitled),
        _off(naive, entitled),
        parts,
    )


def book(orders: int, seed: int) -> tuple[int, int, float]:
    """Sell and give back as the ledger does, without Redis: postings, how many are not right, CPU seconds."""
    page, made, wrong, cpu_s = Page("b", "", 8), 0, 0, 0.0
    for inputs, back in sales(orders, seed):
        began = time.process_time()
        sold = inputs["order"]
        change = sell(page, UNKNOWN, inputs)
        drafts = [*change.postings]
        for row, fen in enumerate(back):
            if fen:
                refund = Refund(f"r{row}", fen, fen)
                change = give_back(page, change.standing, inputs, refund, NOW_MS, sold["member_id"])
                drafts += change.postings
        cpu_s += time.process_time() - began
        made += len(drafts)
        wrong += sum(sum(line.fen for line in draft.posting.lines) != 0 for draft in drafts)
        wrong += change.refused is not None or holds(change.standing, inputs) is not None
    return made, wrong, cpu_s


def _off(held: Counter[Key], entitled: Counter[Key]) -> dict[Key, float]:
    return {key: ((fen << _SCALE) - entitled[key]) / 2**_SCALE for key, fen in held.items()}


def _redis_figures(name: str, made: ledger.Run, given: argparse.Namespace) -> Iterator[Figure]:
    orders = given.redis_orders
    params = {"orders": orders, "postings": made.postings, "seed": given.seed, "batch": ledger.BATCH}
    yield Figure(f"{name}_postings_per_s", made.postings / made.wall_s, "1/s", params)
    yield Figure(f"{name}_postings_per_cpu_s", made.postings / made.cpu_s, "1/s", params)
    yield Figure(f"{name}_cpu_us_per_order", made.cpu_s / orders * 1e6, "us", params)
    yield Figure(f"{name}_server_cpu_us_per_order", made.redis_cpu_s / orders * 1e6, "us", params)
    yield Figure(f"{name}_round_trips_per_1000_orders", made.round_trips / orders * 1000, "1", params)


def main() -> None:
    """Run, print, and keep the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--orders", type=int, default=1_000_000)
    options.add_argument("--redis-orders", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    began = time.monotonic()
    made = run(given.orders, given.seed)
    booked, wrong, book_cpu_s = book(given.orders // 10, given.seed)
    took_s = time.monotonic() - began
    params = {"orders": made.orders, "postings": made.postings, "seed": given.seed}
    worst, naive = made.worst_ppm(), made.worst_ppm(naive=True)
    fen = max(abs(drift) for drift in made.drift_fen.values())
    figures = [
        Figure("unbalanced", made.unbalanced, "postings", params),
        Figure("worst_drift", worst[0], "ppm", params | {"party": worst[1]}),
        Figure("worst_drift_fen", fen, "fen", params),
        Figure("naive_worst_drift", naive[0], "ppm", params | {"party": naive[1]}),
        Figure("postings_per_cpu_s", made.postings / made.cpu_s, "1/s", params),
        Figure("naive_postings_per_cpu_s", made.postings / made.naive_cpu_s, "1/s", params),
        Figure("cpu_us_per_order", made.cpu_s / made.orders * 1e6, "us", params),
        Figure("book_postings", booked, "postings", params),
        Figure("book_unbalanced", wrong, "postings", params),
        Figure("book_postings_per_cpu_s", booked / book_cpu_s, "1/s", params),
        Figure("took", took_s, "s", params),
    ]
    if given.redis_orders:
        real, beside = asyncio.run(ledger.both(given.redis_orders, given.seed))
        figures += [*_redis_figures("redis", real, given), *_redis_figures("naive_redis", beside, given)]
    print(f"{made.orders:,} orders, {made.postings:,} postings, seed {given.seed}")  # noqa: T201 - what it is for
    for metric, value, unit, _ in figures:
        print(f"  {metric:36} {value:14,.3f} {unit}")  # noqa: T201 - same
    append(RESULTS, "money", figures)


if __name__ == "__main__":
    main()
