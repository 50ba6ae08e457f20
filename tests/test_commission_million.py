"""The bench of a million orders, in small: nothing unbalanced, no party off by more than chance allows."""

from __future__ import annotations

import math

from bench.money import book, run

#: An odd fen has a deviation of half a fen at most, so n sales of sqrt(n)/2; five of them are never reached.
DEVIATIONS = 5


def beyond_chance(drift_fen, parts):
    return {key for key, drift in drift_fen.items() if abs(drift) > DEVIATIONS * math.sqrt(parts[key]) / 2}


def test_twenty_thousand_orders_balance_and_the_drift_of_every_party_is_chance():
    """0.001 % of a million orders is 0.001 % * sqrt(50) of these; the naive way is far beyond chance."""
    made = run(20_000, seed=3)
    assert made.unbalanced == 0
    assert made.postings > 2 * made.orders
    assert not beyond_chance(made.drift_fen, made.parts)
    assert made.worst_ppm()[0] < 10 * math.sqrt(50)
    assert beyond_chance(made.naive_drift_fen, made.parts)


def test_what_the_book_makes_of_them_balances_and_leaves_everybody_with_what_is_theirs():
    postings, wrong, _ = book(500, 7)
    assert postings > 1000
    assert wrong == 0
