"""What the audit remembers of one id."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

#: States in which a guide holds the lead.
LIVE = frozenset({"offered", "delivered", "seen", "accepted", "contacted", "visited"})
CLOSED = frozenset({"won", "lost", "withdrawn", "closed"})
#: A seq beyond this is nonsense, and must not cost memory.
SEQ_MAX = 10_000

_DIGEST_BYTES = 8
_UNSEEN = bytes(_DIGEST_BYTES)


class Track:
    """One lead or reservation: small, because a run has a million of them.

    ``version`` is None until its input was read; ``effects`` holds one digest for each seq; ``delay_ms`` is
    the time of the first answer, or minus the time of the input, whichever was read first.
    """

    __slots__ = ("delay_ms", "effects", "guide", "state", "version", "zone")

    def __init__(self) -> None:
        self.version: int | None = None
        self.zone: str | None = None
        self.delay_ms: int | None = None
        self.effects = b""
        self.state: str | None = None
        self.guide: str | None = None

    @property
    def has_hole(self) -> bool:
        """Whether a seq is missing below the highest."""
        seqs = range(1, len(self.effects) // _DIGEST_BYTES + 1)
        return any(self.seen(seq) is None for seq in seqs)

    def seen(self, seq: int) -> bytes | None:
        """The digest of the first record of ``seq``; None when there was none."""
        start = (seq - 1) * _DIGEST_BYTES
        digest = self.effects[start : start + _DIGEST_BYTES]
        return None if digest in (b"", _UNSEEN) else digest

    def note(self, seq: int, digest: bytes) -> bool:
        """Keep the digest of a new ``seq``; tell whether it is the highest, which alone moves the lead."""
        start = (seq - 1) * _DIGEST_BYTES
        after = self.effects[start + _DIGEST_BYTES :]
        self.effects = self.effects[:start].ljust(start, b"\0") + digest + after
        return not after


def effect(assignment: dict[str, Any]) -> bytes:
    """A digest of what a record does; a repeated record may differ in its times, its score and its words."""
    names = ("attempt", "state", "guide_id", "store_id", "queue", "member_id")
    does = orjson.dumps([assignment.get(name) for name in names])
    return blake2b(does, digest_size=_DIGEST_BYTES).digest()
