"""The one place that acknowledges.

The commit order of a batch:

1. take the batch from the stream, in the order of its offsets;
2. do its work: decode, decide, claim, publish; it returns once the broker has every result;
3. only then acknowledge the batch: nothing is acknowledged before its result is safe,
   and never a batch before the one ahead of it;
4. Faust commits the acknowledged offsets on its timer, later than the work, never earlier.

Three kinds of trouble are told apart. A bad record is the work's own business: it sets it aside.
An outage is retried while the partition waits, until the partition goes elsewhere or patience ends.
A bug is bisected to the record that raises alone, which is set aside as ``bug``; too many bugs, an
effect that fails in a way nobody foresaw, or patience at its end stop the process unacknowledged
with ``os._exit``, because any orderly way out of a Faust agent would acknowledge the failed batch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from router.errors import ConfigError, EffectError, OutageError
from router.rules.intake import Record, Refusal

log = logging.getLogger(__name__)

#: Exit statuses: a bug or an unforeseen failure (EX_SOFTWARE), an outage beyond patience (EX_TEMPFAIL).
EXIT_BUG = 70
EXIT_OUTAGE = 75

#: How long one attempt at a batch may take. Redis answers or fails in 1 s, Kafka in 15: longer means that an
#: event never finishes.
ATTEMPT_MAX_S = 60.0

Work = Callable[[Sequence[Record]], Awaitable[None]]


class Delivered(Protocol):
    """A batch of records as the stream hands it over."""

    records: list[Record]

    @property
    def stale(self) -> bool:
        """Whether its partition went elsewhere, or goes down with this process."""

    def ack(self) -> None:
        """Its results are safe."""

    def release(self) -> None:
        """Give it up unacknowledged; it will be delivered again."""


def end_process(status: int) -> NoReturn:
    """End at once: nothing more is acknowledged or committed."""
    logging.shutdown()
    os._exit(status)


@dataclass(slots=True)
class Delivery:
    """Carries batches through their work and acknowledges them.

    ``set_aside`` publishes dead letters; ``leaving`` says that the process stops or its partitions move.
    """

    set_aside: Callable[[Sequence[Refusal]], Awaitable[None]]
    leaving: Callable[[], bool]
    outage_max_s: float = 600.0
    bug_max: int = 5
    end: Callable[[int], NoReturn] = end_process
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    _bugs: deque[float] = field(default_factory=deque)
    _attempts: dict[object, float] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether every attempt under way may still end by itself; may be asked by any thread."""
        now = self.clock()
        return all(now - began <= ATTEMPT_MAX_S for began in tuple(self._attempts.values()))

    async def carry(self, batch: Delivered, work: Work) -> None:
        """Bring one batch to its acknowledgement, or leave it unacknowledged."""
        try:
            done = await self._complete(batch, work)
            if done:
                batch.ack()
            else:
                batch.release()
        except Exception:
            log.exception("a failure nobody foresaw; stopping unacknowledged")
            self.end(EXIT_BUG)

    async def _complete(self, batch: Delivered, work: Work) -> bool:
        """Work until it is done (True) or until the batch is somebody else's business (False)."""
        patience_ends = self.clock() + self.outage_max_s
        wait_s = 0.05
        bugs: list[Record] = []
        while True:
            # a bug once set aside is neither tried nor counted again, however long an outage lasts after it
            rest = [record for record in batch.records if record not in bugs]
            try:
                await self._bisect(rest, work, bugs)
            except OutageError as outage:
                log.warning("outage, %d records wait: %s", len(rest), outage)
                if batch.stale or self.leaving():
                    return False
                if self.clock() > patience_ends:
                    log.critical("the outage outlasted %g s; stopping unacknowledged", self.outage_max_s)
                    self.end(EXIT_OUTAGE)
                await self.pause(wait_s)
                wait_s = min(wait_s * 2, 1.0)
            else:
                return True

    async def _bisect(self, records: Sequence[Record], work: Work, bugs: list[Record]) -> None:
        """Do the work; where it raises, do it by halves until one record raises alone, and joins ``bugs``."""
        try:
            await self._attempt(records, work)
        except (OutageError, EffectError, ConfigError):
            raise
        except Exception as bug:  # noqa: BLE001 - whatever it is, it must not reach Faust
            if len(records) > 1:
                middle = len(records) // 2
                await self._bisect(records[:middle], work, bugs)
                await self._bisect(records[middle:], work, bugs)
                return
            await self._note_bug(records[0], bug)
            bugs.append(records[0])

    async def _attempt(self, records: Sequence[Record], work: Work) -> None:
        attempt = object()
        self._attempts[attempt] = self.clock()
        try:
            await work(records)
        finally:
            del self._attempts[attempt]

    async def _note_bug(self, record: Record, bug: Exception) -> None:
        place = (record.topic, record.partition, record.offset)
        log.error("bug: %s[%d]@%d raises alone", *place, exc_info=bug)
        now = self.clock()
        while self._bugs and self._bugs[0] < now - 60:
            self._bugs.popleft()
        if len(self._bugs) >= self.bug_max:
            log.critical("more than %d bugs in a minute; stopping unacknowledged", self.bug_max)
            self.end(EXIT_BUG)
        await self.set_aside([Refusal(record, "bug", repr(bug))])
        self._bugs.append(now)
