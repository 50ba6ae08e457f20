"""The one place that acknowledges: what it does with good work, outages, bugs and the unforeseen."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.delivery import EXIT_BUG, EXIT_OUTAGE, Delivery
from router.errors import ConfigError, EffectError, OutageError, RefusedError


@dataclass(frozen=True)
class Record:
    offset: int
    topic: str = "t"
    partition: int = 0
    key: bytes | None = None
    value: bytes | None = b"{}"
    timestamp: int = 0


class EndedError(BaseException):
    """In place of the end of the process: like it, nothing catches it."""


@dataclass
class World:
    """A batch, its surroundings, and what happened, in order."""

    records: list[Record] = field(default_factory=lambda: [Record(offset) for offset in range(4)])
    stale: bool = False
    leaving: bool = False
    now_s: float = 0.0
    told: list[object] = field(default_factory=list)
    aside: list[object] = field(default_factory=list)
    set_aside_raises: list[Exception] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    on_pause: object = None

    def ack(self):
        self.told.append("ack")

    def release(self):
        self.told.append("release")

    def delivery(self, **options):
        async def set_aside(refusals):
            if self.set_aside_raises:
                raise self.set_aside_raises.pop(0)
            self.told.extend(f"aside {refusal.record.offset}" for refusal in refusals)
            self.aside.extend(refusals)

        async def pause(seconds):
            self.pauses.append(seconds)
            self.now_s += seconds
            if self.on_pause:
                self.on_pause()

        def end(status):
            self.told.append(f"end {status}")
            raise EndedError

        return Delivery(
            set_aside, lambda: self.leaving, end=end, pause=pause, clock=lambda: self.now_s, **options
        )

    def carry(self, work, delivery=None):
        """Carry the batch; what was told until the batch was done or the process ended."""
        delivery = delivery or self.delivery()

        async def noted(records):
            self.told.append([record.offset for record in records])
            await work(records)

        async def whole():
            with contextlib.suppress(EndedError):
                await delivery.carry(self, noted)

        asyncio.run(whole())
        return self.told


def raising(*errors):
    """Work that raises these one after the other, and then succeeds."""
    errors = list(errors)

    async def work(_):
        if errors and (error := errors.pop(0)) is not None:
            raise error

    return work


def bad_at(*offsets, error=ValueError):
    async def work(records):
        if {record.offset for record in records} & set(offsets):
            raise error

    return work


def test_a_batch_is_acknowledged_once_after_its_work_has_returned():
    world = World()

    async def work(_):
        await asyncio.sleep(0)
        assert "ack" not in world.told
        world.told.append("done")

    assert world.carry(work) == [[0, 1, 2, 3], "done", "ack"]


def test_f21_an_outage_is_retried_until_it_is_over_and_only_then_acknowledged():
    world = World()
    told = world.carry(raising(*[OutageError("Redis")] * 20))
    assert told == [[0, 1, 2, 3]] * 21 + ["ack"]
    assert world.pauses == sorted(world.pauses)
    assert world.pauses[0] < 0.1
    assert max(world.pauses) <= 1.0


@pytest.mark.parametrize("what", ["stale", "leaving"])
def test_f11_an_outage_of_a_batch_that_is_elsewhere_by_now_is_given_up_unacknowledged(what):
    world = World()
    world.on_pause = lambda: setattr(world, what, len(world.pauses) >= 3)
    assert world.carry(raising(*[OutageError("Redis")] * 99)) == [[0, 1, 2, 3]] * 4 + ["release"]


def test_f10_work_that_is_done_while_leaving_is_acknowledged():
    assert World(leaving=True).carry(raising()) == [[0, 1, 2, 3], "ack"]


def test_f21_patience_ends_unacknowledged():
    world = World()
    told = world.carry(raising(*[OutageError("Redis")] * 999), world.delivery(outage_max_s=30))
    assert told[-1] == f"end {EXIT_OUTAGE}" == "end 75"
    assert not {"ack", "release"} & {each for each in told if isinstance(each, str)}
    assert 30 < world.now_s < 32


def test_patience_begins_anew_with_every_batch():
    world = World()
    delivery = world.delivery(outage_max_s=30)
    for _ in range(3):
        world.carry(raising(*[OutageError("Redis")] * 30), delivery)
    assert world.told.count("ack") == 3


@pytest.mark.parametrize("error", [EffectError, ConfigError])
def test_an_effect_that_nobody_foresaw_ends_the_process_unacknowledged(error):
    """It is not bisected either: what is wrong is not the record."""
    assert World().carry(raising(error("WRONGTYPE"))) == [[0, 1, 2, 3], f"end {EXIT_BUG}"]
    assert EXIT_BUG == 70


@given(data=st.data())
def test_f12_exactly_the_records_that_raise_alone_are_set_aside(data):
    """All others are worked, in order; the batch is acknowledged after everything; there is no hole."""
    offsets = data.draw(st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=20).map(sorted))
    bad = data.draw(st.sets(st.sampled_from(offsets)))
    world = World([Record(offset) for offset in offsets])
    worked = []

    async def work(records):
        await bad_at(*bad)(records)
        worked.extend(record.offset for record in records)

    told = world.carry(work, world.delivery(bug_max=99))
    assert worked == [offset for offset in offsets if offset not in bad]
    assert [refusal.record.offset for refusal in world.aside] == sorted(bad)
    assert {refusal.reason for refusal in world.aside} <= {"bug"}
    assert told[-1] == "ack"
    assert told.count("ack") == 1


def test_f12_a_batch_that_raises_only_as_a_whole_has_no_bug():
    world = World()

    async def work(records):
        if len(records) == 4:
            raise MemoryError

    assert world.carry(work) == [[0, 1, 2, 3], [0, 1], [2, 3], "ack"]
    assert world.aside == []


def test_f12_what_a_bug_said_goes_with_the_record():
    world = World()
    world.carry(bad_at(2, error=KeyError("store")))
    [refusal] = world.aside
    assert (refusal.record, refusal.reason, refusal.detail) == (Record(2), "bug", "KeyError('store')")


def test_f38_a_result_that_is_refused_for_good_is_set_aside_like_a_bug():
    world = World()
    world.carry(bad_at(1, error=RefusedError("too large", 0)))
    assert [refusal.record.offset for refusal in world.aside] == [1]
    assert world.told[-1] == "ack"


def test_f12_more_bugs_than_allowed_in_a_minute_end_the_process_unacknowledged():
    world = World([Record(offset) for offset in range(8)])
    told = world.carry(bad_at(*range(8)), world.delivery(bug_max=5))
    assert told[-1] == f"end {EXIT_BUG}"
    assert len(world.aside) == 5
    assert "ack" not in told


def test_f12_bugs_of_other_batches_count_too_but_only_for_a_minute():
    world = World([Record(0)])
    delivery = world.delivery(bug_max=2)
    for now_s in (0, 1, 61, 62, 63):
        world.now_s = now_s
        world.carry(bad_at(0), delivery)
    assert world.told == [*[[0], "aside 0", "ack"] * 4, [0], f"end {EXIT_BUG}"]


def test_f36_an_outage_while_a_bug_is_looked_for_retries_the_batch():
    world = World()
    outages = [OutageError("Redis")] * 2

    async def work(records):
        if records[0].offset == 2 and outages:
            raise outages.pop()
        await bad_at(3)(records)

    told = world.carry(work)
    assert told == [
        *([0, 1, 2, 3], [0, 1], [2, 3]),
        *([0, 1, 2, 3], [0, 1], [2, 3]),
        *([0, 1, 2, 3], [0, 1], [2, 3], [2], [3], "aside 3"),
        "ack",
    ]


def test_f36_a_bug_is_set_aside_and_counted_once_however_long_an_outage_behind_it_lasts():
    """Otherwise an outage of seconds would look like many bugs, or fill the dead letters."""
    world = World()
    outages = [OutageError("Redis")] * 50

    async def work(records):
        await bad_at(0)(records)
        if records[-1].offset == 3 and outages:
            raise outages.pop()

    told = world.carry(work, world.delivery(bug_max=1))
    assert told.count("aside 0") == 1
    assert told[-2:] == [[1, 2, 3], "ack"]


def test_f36_a_bug_that_could_not_be_set_aside_is_not_forgotten():
    world = World(set_aside_raises=[OutageError("Kafka")] * 50)
    told = world.carry(bad_at(1), world.delivery(bug_max=1))
    assert told.count("aside 1") == 1
    assert told[-1] == "ack"
    assert told.index("aside 1") < told.index("ack")


@pytest.mark.parametrize("error", [EffectError("Kafka"), RuntimeError("a bug in setting aside")])
def test_a_record_that_cannot_be_set_aside_ends_the_process_unacknowledged(error):
    """An exception that reached Faust would acknowledge the batch."""
    told = World(set_aside_raises=[error]).carry(bad_at(1))
    assert told[-1] == f"end {EXIT_BUG}"
    assert "ack" not in told


def test_no_exception_whatever_reaches_faust():
    class Odd(World):
        def ack(self):
            raise LookupError

    assert Odd().carry(raising())[-1] == f"end {EXIT_BUG}"


def test_a_cancelled_batch_is_left_alone():
    """Faust cancels agents when it stops; the batch is then delivered again."""
    world = World()

    async def whole():
        task = asyncio.create_task(world.delivery().carry(world, lambda _: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(whole())
    assert world.told == []


def test_the_end_is_at_once():
    """No clean-up runs that could acknowledge or commit."""
    code = "import router.delivery as d\ntry: d.end_process(70)\nfinally: print('cleaned up')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (70, "")


def test_f13_an_attempt_that_never_ends_shows_after_a_minute_and_an_outage_does_not():
    """A worker that waits for Redis is alive: to restart it would not help."""
    world = World()
    delivery = world.delivery()
    alive = []

    async def work(_):
        world.now_s += 59
        alive.append(delivery.alive)
        if len(alive) < 4:
            raise OutageError("Redis")
        world.now_s += 2
        alive.append(delivery.alive)

    world.carry(work, delivery)
    assert alive == [True] * 4 + [False]
    assert delivery.alive
