"""Shares that are learnt as answers come in: Beta estimates that begin at a prior and forget with time.

A guide with no answers has the prior's mean, so that newcomers get a chance; the more answers, the less the
prior counts (Gelman et al., Bayesian Data Analysis, 2.4). Counts lose half their weight every half-life, so
what a guide was like long ago is forgotten, and the estimate goes back to the prior where nothing new comes
in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scoring.arrays import F32s, F64s, I64s

#: Ages are told apart by the 256th part of a half-life.
_PARTS, _PART_BITS = 256, 8
_WHOLE_MAX = 1000
#: 2 ** -(i / 256) and 2 ** -i: looked up, since a vectorised power may differ in the last bit by where a
#: number stands.
_PART: F64s = np.array([2.0 ** -(part / _PARTS) for part in range(_PARTS)])
_WHOLE: F64s = np.array([2.0**-whole for whole in range(_WHOLE_MAX + 1)])


class Prior(NamedTuple):
    """What is believed of a guide before any answer: ``mean`` 0..1, as if seen ``strength`` times."""

    mean: float
    strength: float


def faded(age_ms: I64s, half_life_ms: int) -> F64s:
    """What is left of the weight of a count of that age, 0..1; ages below 0 are 0. In steps of 0.3 %."""
    steps = np.maximum(age_ms * (_PARTS / half_life_ms), 0)
    steps = np.minimum(steps, _WHOLE_MAX * _PARTS).astype(np.int64)
    left: F64s = _PART.take(steps & (_PARTS - 1)) * _WHOLE.take(steps >> _PART_BITS)
    return left


def mean(hits: F32s, tries: F32s, left: F64s, prior: Prior) -> F32s:
    """The expected share of hits, 0..1, of counts that have ``left`` of their weight, see `faded`."""
    share = (prior.mean * prior.strength + hits * left) / (prior.strength + tries * left)
    return np.where(tries > 0, share, prior.mean).astype(np.float32)


def observed(count: F32s, age_ms: I64s, half_life_ms: int, more: F32s) -> F32s:
    """A count faded up to now, plus what has come in."""
    return (count * faded(age_ms, half_life_ms) + more).astype(np.float32)
