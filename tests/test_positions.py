"""What is seen of a partition is true: how far behind, and what its retention took before it was read."""

from __future__ import annotations

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from router.positions import Positions

TP0 = TP("leads", 0)


def at(committed=100):
    positions = Positions()
    positions.begin({TP0: committed})
    return positions


def test_the_lag_is_what_the_broker_has_beyond_what_is_committed():
    positions = at(100)
    positions.bounds({TP0: 0}, {TP0: 130})
    assert positions.lag(TP0) == 30
    positions.committed[TP0] = 120
    assert positions.lag(TP0) == 10
    positions.forget(TP0)
    assert not list(positions.held())


def test_f40_a_partition_cut_before_anything_came_of_it_is_told(caplog):
    positions = at(100)
    for _ in range(2):  # told once
        positions.bounds({TP0: 150}, {TP0: 150})
    assert positions.truncated == {TP0: 50}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "leads[0] was expected to go on at 100 and begins at 150" in caplog.text


def test_f40_a_hole_that_a_transaction_left_is_no_truncation(caplog):
    positions = at(100)
    positions.delivered(TP0, 103, 110, 111)
    positions.delivered(TP0, 112, 115, 116)
    positions.bounds({TP0: 90}, {TP0: 116})
    assert (positions.truncated, caplog.text) == ({}, "")


def test_f40_a_new_group_misses_nothing():
    """What was removed before anybody was there to read it is nobody's loss to tell."""
    positions = Positions()
    positions.begin({})
    positions.bounds({TP0: 500}, {TP0: 600})
    positions.delivered(TP0, 500, 599, 600)
    positions.bounds({TP0: 500}, {TP0: 600})
    assert positions.truncated == {}


@given(
    committed=st.integers(0, 50), cut=st.integers(0, 100), told_first=st.booleans(), rest=st.integers(1, 50)
)
def test_f40_what_retention_took_is_counted_once_whoever_notices_first(committed, cut, told_first, rest):
    """The delivery behind the cut, or the broker's word about where the log begins."""
    positions = at(committed)
    begin, end = cut, max(cut, committed) + rest
    first = max(begin, committed)
    if told_first:
        positions.bounds({TP0: begin}, {TP0: end})
    positions.delivered(TP0, first, end - 1, end)
    positions.bounds({TP0: begin}, {TP0: end})
    assert positions.truncated.get(TP0, 0) == max(0, cut - committed)
