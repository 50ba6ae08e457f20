"""The rows that the simulator holds: seeded runs in which the fault happened end as if it had not."""

from __future__ import annotations

import logging
from functools import cache

import pytest

from tests.simulation.simulation import Simulation

#: Seeds that the simulator's own tests do not run, and how many of them must have met a fault.
SEEDS, MET = range(5_000, 5_120), 3

#: Row to the words by which the trace of a run tells of its fault.
TOLD = {
    "f01": ["killed at c1"],
    "f02": ["killed at c2", "killed at c3"],
    "f03": ["killed at c4"],
    "f04": ["killed at c5", "killed at p1", "killed at p2", "killed at p3"],
    "f05": ["killed at c6"],
    "f06": ["killed at c5"],
    "f14": ["join", "leave"],
    "f15": ["is expelled"],
    "f17": ["is told that it lost"],
    "f23": ["Redis call executed", "Redis call late"],
    "f24": ["a replica takes over"],
    "f25": ["wipe"],
    "f37": [" unconfirmed"],
}


@cache
def runs():
    """``(trace, problems)`` of every seed."""
    logging.disable(logging.CRITICAL)
    try:
        return [traced(seed) for seed in SEEDS]
    finally:
        logging.disable(logging.NOTSET)


def traced(seed):
    lines = []
    problems = Simulation(seed, trace=lines.append).run()
    return "\n".join(lines), problems


@pytest.mark.parametrize("row", TOLD)
def test_simulated(row):
    for words in TOLD[row]:
        met = [problems for trace, problems in runs() if words in trace]
        assert len(met) >= MET, words
        assert not any(met), words
