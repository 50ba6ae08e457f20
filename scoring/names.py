"""Names of stores or guides by row, and rows by brand and name, without a Python object for each.

Names stand in one array of bytes of equal width. Rows are found by binary search in sorted hashes; what
came or went since these were sorted stands in a small dict in front of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.arrays import I32s, Rows, U32s, U64s

Bytes = npt.NDArray[np.bytes_]

#: One odd factor for each word of eight bytes; ids have at most 64.
_FACTORS: U64s = np.random.default_rng(20_240_601).integers(0, 2**63, 16, np.uint64) * np.uint64(
    2
) + np.uint64(1)

#: So many names cost less one by one than as columns.
FEW = 8


class Names:
    """n names, by row; rows of names that went keep them."""

    def __init__(self, ids: Bytes, brands: Sequence[str], brand: Rows, live: Rows) -> None:
        self._ids = ids
        self._used = ids.size
        hashes = hashes_of(ids, brands, brand)
        #: [rows] for ties: the same for the same brand and name, wherever it stands.
        self.hash: U32s = (hashes >> np.uint64(32)).astype(np.uint32)
        order = live[np.argsort(hashes[live], kind="stable")]
        self._sorted, self._row = hashes[order], order.astype(np.int32)
        self._late: dict[str, int] = {}

    def __len__(self) -> int:
        """How many rows, those of names that went among them."""
        return self._used

    def __getitem__(self, row: int) -> str:
        """The name in a row."""
        return bytes(self._ids[row]).decode()

    def __iter__(self) -> Iterator[str]:
        """Names by row."""
        return iter(self.take(np.arange(self._used)))

    @property
    def late(self) -> int:
        """How many names came, moved or went since the hashes were sorted."""
        return len(self._late)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._ids.nbytes + self.hash.nbytes + self._sorted.nbytes + self._row.nbytes

    def bytes_of(self, rows: Rows) -> Bytes:
        """The names of rows, as bytes."""
        return self._ids[rows]

    def take(self, rows: Rows) -> list[str]:
        """The names of many rows."""
        names: list[bytes] = self._ids[rows].tolist()
        return [name.decode() for name in names]

    def row(self, brand: str, name: str) -> int:
        """The row of a name, -1 if unknown."""
        late = self._late.get(f"{brand}/{name}") if self._late else None
        if late is not None:
            return late
        return int(self._find(_hash(brand, name), name.encode()))

    def rows(self, brands: Sequence[str], names: Sequence[str]) -> I32s:
        """The rows of many names, -1 where unknown."""
        if len(names) <= FEW:
            return np.array([self.row(*each) for each in zip(brands, names, strict=True)], np.int32)
        codes: dict[str, int] = {}
        code = np.array([codes.setdefault(brand, len(codes)) for brand in brands], np.int32)
        rows = self.rows_of(np.array([name.encode() for name in names]), list(codes), code)
        if self._late:
            for at, (brand, name) in enumerate(zip(brands, names, strict=True)):
                late = self._late.get(f"{brand}/{name}")
                if late is not None:
                    rows[at] = late
        return rows

    def rows_of(self, ids: Bytes, brands: Sequence[str], brand: Rows) -> I32s:
        """The rows of many names given as bytes, as of when the hashes were sorted."""
        rows = np.full(ids.size, -1, np.int32)
        if not self._sorted.size:
            return rows
        hashes = hashes_of(ids, brands, brand)
        at = self._sorted.searchsorted(hashes)
        todo = np.arange(ids.size)
        while todo.size:  # most often one turn: only names with equal hashes take more
            place = np.minimum(at[todo], self._sorted.size - 1)
            there = self._sorted[place] == hashes[todo]
            todo, place = todo[there], place[there]
            row = self._row[place]
            same = self._ids[row] == ids[todo]
            rows[todo[same]] = row[same]
            todo = todo[~same]
            at[todo] += 1
            todo = todo[at[todo] < self._sorted.size]
        return rows

    def append(self, ids: Bytes, brands: Sequence[str], rows: Rows) -> None:
        """Write names into new rows behind the used ones, where they are found from now on."""
        end = self._used + rows.size
        width = max(self._ids.dtype.itemsize, ids.dtype.itemsize)
        if end > self._ids.size or width > self._ids.dtype.itemsize:
            length = self._ids.size if end <= self._ids.size else 2 * end
            grown, hashes = np.zeros(length, f"S{width}"), np.zeros(length, np.uint32)
            grown[: self._used], hashes[: self._used] = self._ids[: self._used], self.hash[: self._used]
            self._ids, self.hash = grown, hashes
        codes: dict[str, int] = {}
        code = np.array([codes.setdefault(brand, len(codes)) for brand in brands], np.int32)
        self._ids[rows] = ids
        self.hash[rows] = (hashes_of(ids, list(codes), code) >> np.uint64(32)).astype(np.uint32)
        self._used = end
        for brand, name, row in zip(brands, ids.tolist(), rows.tolist(), strict=True):
            self._late[f"{brand}/{name.decode()}"] = row

    def remove(self, brand: str, name: str) -> None:
        """From now on a name is found nowhere."""
        self._late[f"{brand}/{name}"] = -1

    def _find(self, hashed: int, name: bytes) -> int:
        at = int(self._sorted.searchsorted(np.uint64(hashed)))
        while at < self._sorted.size and int(self._sorted[at]) == hashed:
            row = int(self._row[at])
            if self._ids[row] == name:
                return row
            at += 1
        return -1


def hashes_of(ids: Bytes, brands: Sequence[str], brand: Rows) -> U64s:
    """A hash of 64 bits of each brand and name, whatever the width of the array.

    Words of eight bytes are mixed by the finaliser of MurmurHash3 (Appleby, public domain), times an odd
    factor for each place, and summed: a word of zeros adds nothing.
    """
    seeds = np.array([_brand_hash(name) for name in brands], np.uint64)
    total: U64s = seeds[brand] if brand.size else np.zeros(0, np.uint64)
    words = max(1, -(-ids.dtype.itemsize // 8))
    table = ids.astype(f"S{8 * words}").view("<u8").reshape(ids.size, words)
    for column in range(words):
        total = total + _mixed(table[:, column].astype(np.uint64)) * _FACTORS[column]
    return _mixed(total)


@lru_cache(maxsize=1024)
def _brand_hash(brand: str) -> int:
    return _mix(_plain(brand.encode(), 1))


def _hash(brand: str, name: str) -> int:
    return _mix(_plain(name.encode(), _brand_hash(brand)))


def _plain(name: bytes, seed: int) -> int:
    total = seed
    for at in range(0, len(name), 8):
        word = int.from_bytes(name[at : at + 8], "little")
        total += _mix(word) * _FACTOR_INTS[at // 8]
    return total & _ALL


def _mix(word: int) -> int:
    word ^= word >> 33
    word = word * 0xFF51AFD7ED558CCD & _ALL
    word ^= word >> 33
    word = word * 0xC4CEB9FE1A85EC53 & _ALL
    return word ^ word >> 33


def _mixed(words: U64s) -> U64s:
    words = words ^ words >> np.uint64(33)
    words *= np.uint64(0xFF51AFD7ED558CCD)
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xC4CEB9FE1A85EC53)
    return words ^ words >> np.uint64(33)


_ALL = 2**64 - 1
_FACTOR_INTS: list[Any] = _FACTORS.tolist()
