"""Fen in proportion to weights, the odd ones by lot.

Largest remainders would give the odd fen of equal sales to the same party for ever, and so would the order
of a listing. Here a point drawn from a hash of the order decides (systematic sampling, Madow 1949): the
parties are laid end to end over ``[0, fen)``, in an order drawn likewise, and all is moved by that point; a
party gets as many fen as its stretch then covers whole numbers. So the parts sum to the whole, each is off
its exact share by less than a fen, and on average by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate

#: A role and a party.
Key = tuple[str, str]
_BITS = 64


class Lot:
    """Weights that any amounts can be allotted by; ``seed`` names the draw, the listing never matters.

    ``keys`` and ``weights`` are in the order drawn, ``total`` is the sum of the weights.
    """

    def __init__(self, weights: Mapping[Key, int], seed: str) -> None:
        """Weights are >= 0.

        Raises:
            ValueError: if a weight is negative, or none above zero: then nobody can be given anything.

        """
        if min(weights.values(), default=0) < 0 or not any(weights.values()):
            raise ValueError(f"weights: at least one is above 0, none below, not {[*weights.values()]!r:.80}")
        self.keys = sorted(weights, key=lambda key: (_drawn(seed, *key), key))
        self.weights = [weights[key] for key in self.keys]
        self._ends = tuple(accumulate(self.weights))
        self.total = self._ends[-1]
        # of the remainders 0..total-1 those from here on are moved over the next whole number
        self._over = self.total - (_drawn(seed) * self.total >> _BITS)

    def of(self, fen: int) -> list[int]:
        """What each of ``keys`` gets; sums to ``fen`` >= 0."""
        total, over, before, out = self.total, self._over, 0, []
        for end in self._ends:
            whole, rest = divmod(fen * end, total)
            upto = whole + (rest >= over)
            out.append(upto - before)
            before = upto
        return out


def _drawn(*words: str) -> int:
    return int.from_bytes(blake2b("/".join(words).encode(), digest_size=_BITS // 8).digest())
