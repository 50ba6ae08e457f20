"""A few pairs put among many: what a search finds is in order, and those who join in beside it are few."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from scoring.arrays import Rows, gaps

T = TypeVar("T", bound=np.generic)


class Order(NamedTuple):
    """Where many and few pairs stand among each other."""

    many: Rows  #: of each place the pair of the many that stands there, or any where one of the few does
    few: Rows  #: the place of each of the few

    def __call__(self, many: npt.NDArray[T], few: npt.NDArray[T]) -> npt.NDArray[T]:
        """Two columns made one."""
        column = many.take(self.many) if many.size else np.empty(few.size, many.dtype)
        column[self.few] = few
        return column


def merged(many: Rows, few: Rows) -> Order:
    """The stable order of two columns: the long one, which most often ascends, and the short one."""
    by_many = None if (many[1:] >= many[:-1]).all() else np.argsort(many, kind="stable")
    by_few = np.argsort(few, kind="stable")
    place = np.searchsorted(many if by_many is None else many[by_many], few[by_few], side="right")
    place += np.arange(few.size)
    # each of the few moves those behind it on by one
    at = np.arange(many.size + few.size)
    at -= np.arange(few.size + 1).repeat(gaps(np.concatenate(([0], place, [at.size]))))
    by_place = np.empty_like(place)
    by_place[by_few] = place
    return Order(at if by_many is None else by_many.take(at), by_place)
