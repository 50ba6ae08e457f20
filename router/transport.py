"""How records get from Kafka to an agent in batches, and how their acknowledgement gets back.

Faust's own delivery costs four asyncio tasks per message, acknowledges what an exception left undone and can
commit past a message in flight. This transport hands over *chunks* instead (one event per partition and up
to ``CHUNK_MAX`` records) and keeps its own frontier: a queue of the delivered chunks of each partition,
committed up to the first one that is not acknowledged. Groups, assignment, rebalance, commit timer and
command line stay Faust's. Use it as ``faust.App(id, broker=broker_url(url), **app_settings())``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import faust
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

from router.errors import ConfigError
from router.positions import Positions, Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping

    from aiokafka import ConsumerRecord

CHUNK_MAX = 256
"""Records in one chunk."""
FETCH_TIMEOUT_S = 1.0
"""How long one call waits for records; bounds how late a stop is seen."""
PRESSURE_POLL_S = 0.01
"""The same while a partition waits for room in a buffer: nothing wakes us when there is room again."""
WATCH_S = 3.0
"""How often the broker is asked where its partitions begin and end, and how long it may take to answer."""


def app_settings() -> dict[str, Any]:
    """Return the settings of ``faust.App`` that the guarantees and budgets rest on (times in seconds)."""
    return {
        "Stream": BatchStream,  # gives agents `stream.batches()`
        "TableManager": NoTables,  # a worker takes part a second earlier
        "web_enabled": False,  # Faust's web server listens on every interface, without authentication
        "topic_allow_declare": False,  # topics are the operator's to make
        "topic_disable_leader": True,  # nothing here runs on a leader only
        "consumer_auto_offset_reset": "earliest",  # a new group begins with the first record, it skips none
        "stream_wait_empty": True,  # without it a batch cancelled at shutdown would count as done
        "stream_buffer_maxsize": 16,  # chunks: 4 096 records are enough to keep an agent busy
        "broker_commit_interval": 0.5,  # bounds what a crash delivers again
        "broker_session_timeout": 12.0,  # a crashed worker's partitions are taken over after this
        "broker_heartbeat_interval": 3.0,  # four chances within the session timeout
        "broker_rebalance_timeout": 30.0,  # above the longest batch, which gives up or is done in half of it
        "broker_request_timeout": 30.0,  # Faust asks for no less than the session timeout
        "producer_request_timeout": 20.0,  # the default of 20 minutes would block a rebalance that long
        "producer_max_batch_size": 512 * 1024,  # bytes: the 16 KiB of the default would split every batch
    }


def broker_url(kafka_url: str) -> list[str]:
    """Turn ``kafka://a:9092,b:9092`` (also ``;``, scheme optional) into broker URLs for this transport.

    Raises ConfigError when a broker of the list is empty.
    """
    hosts = [part.strip().removeprefix("kafka://") for part in re.split("[,;]", kafka_url)]
    if not all(hosts):
        raise ConfigError(f"{kafka_url!r} is not a list of brokers such as kafka://host:9092,other:9092")
    return [f"leadkafka://{host}" for host in hosts]


class App(faust.App):  # type: ignore[misc] # Faust is untyped for us
    """A Faust application without tables, which needs no folder for them in the working directory."""

    def _create_directories(self) -> None:
        pass

    def seen(self) -> dict[TP, Seen]:
        """What its consumer sees of its partitions, by any thread; nothing before it is started."""
        return self._consumer.seen() if self._consumer else {}


class NoTables(TableManager):  # type: ignore[misc] # Faust is untyped for us
    """Faust's keeper of tables; it would let a worker join its group a second later, for tables to come."""

    async def on_start(self) -> None:
        """Start without that second."""
        await self._update_channels()
        await self.recovery.start()


class Chunk(ConsumerMessage):  # type: ignore[misc] # Faust is untyped for us
    """Records of one partition, delivered and acknowledged as one; ``offset`` is the first one's."""

    __slots__ = ("dropped", "last", "since_s")

    def __init__(self, tp: TP, records: list[ConsumerRecord]) -> None:
        super().__init__(*tp, records[0].offset, 0.0, 0, (), None, None, None, 0, 0, tp)
        self.last: int = records[-1].offset
        self.dropped = False  # true once the partition was taken away: never to be committed
        self.since_s = time.monotonic()


class Batch:
    """Records that are acknowledged together or not at all.

    ``records`` are flat and in offset order within each partition; ``attempt`` counts from 0 how often the
    batch was handed over before.
    """

    __slots__ = ("_events", "_stream", "attempt", "records")

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        self._events: list[faust.Event] = []
        self.attempt = 0
        self.records: list[ConsumerRecord] = []

    @property
    def stale(self) -> bool:
        """Whether one of its partitions was taken away since: acknowledging it has no effect any more."""
        return any(event.message.dropped for event in self._events)

    def add(self, event: faust.Event) -> None:
        """Take in a chunk; from now on a rebalance or a stop waits for this batch."""
        self._events.append(event)
        self.records += event.value
        self._stream.app.consumer.track(event.message)

    def ack(self) -> None:
        """Let the offsets be committed as soon as everything delivered before is acknowledged too."""
        if self._stream.settle(self):
            for event in self._events:
                event.ack()

    def release(self) -> None:
        """Give the batch up: nobody waits for it, and nothing from it on is handed over or committed.

        Its records come again, and what follows them, to whoever owns the partition after the next rebalance
        or restart: what follows must not overtake.
        """
        if self._stream.settle(self):
            self._stream.app.consumer.give_up(event.message for event in self._events)


class BatchStream(faust.Stream):  # type: ignore[misc] # Faust is untyped for us
    """The stream of an agent, read in batches with explicit acknowledgement."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's own arguments, passed on
        super().__init__(*args, **kwargs)
        self._in_flight: list[Batch] = []

    async def batches(self, batch_max: int, linger_s: float) -> AsyncIterator[Batch]:
        """Yield what is there, up to about ``batch_max`` records in whole chunks.

        Waits up to ``linger_s`` for more once there is something (0: not at all). Does not wait for the
        acknowledgement of a batch before it yields the next one. When Faust has restarted the agent, the
        batches it left behind come first, with their ``attempt`` raised.
        """
        for batch in tuple(self._in_flight):
            if batch.stale:
                self.settle(batch)
            elif batch in self._in_flight:
                batch.attempt += 1
                yield batch
        while not self.should_stop:
            batch = Batch(self)
            try:
                await self._fill(batch, batch_max, linger_s)
            except StopAsyncIteration:  # how Faust tells an agent to end
                batch.release()
                return
            if batch.records:
                yield batch

    def settle(self, batch: Batch) -> bool:
        """Take the batch out of those in flight; false when it was settled before."""
        if batch not in self._in_flight:
            return False
        self._in_flight.remove(batch)
        return True

    async def _fill(self, batch: Batch, batch_max: int, linger_s: float) -> None:
        queue = self.channel.queue
        self._in_flight.append(batch)
        try:
            self._take(batch, await queue.get())
            deadline = asyncio.get_running_loop().time() + linger_s
            while len(batch.records) < batch_max:
                if not queue.empty():
                    self._take(batch, queue.get_nowait())
                elif linger_s > 0:
                    async with asyncio.timeout_at(deadline):
                        self._take(batch, await queue.get())
                else:
                    break
        except TimeoutError:
            pass
        finally:
            if not batch.records:
                self.settle(batch)

    def _take(self, batch: Batch, event: faust.Event) -> None:
        # A rebalance empties the queue, but cannot take back the event that was just leaving it.
        if self.app.flow_control.is_active() and not self.app.consumer.is_over(event.message):
            batch.add(event)
            self.app.monitor.stream_inbound_time[event.message.tp] = time.monotonic()


class ChunkConsumer(driver.Consumer):  # type: ignore[misc] # Faust is untyped for us
    """Delivers chunks, and commits each partition up to the first chunk that is not acknowledged.

    Offsets may have holes (compacted or transactional topics): what counts is the order of delivery.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's own arguments, passed on
        self._frontier: dict[TP, deque[Chunk]] = {}
        self._reached: dict[TP, int] = {}
        self._on_room: dict[TP, Callable[[], None]] = {}
        self._given_up: set[TP] = set()
        self.positions = Positions()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def track(self, chunk: Chunk) -> None:
        """Make rebalance and stop wait until the chunk is acknowledged."""
        self._unacked_messages.add(chunk)

    def untrack(self, chunks: Iterable[Chunk]) -> None:
        """Make nobody wait for these chunks."""
        self._unacked_messages.difference_update(chunks)
        notify(self._waiting_for_ack)

    def give_up(self, chunks: Iterable[Chunk]) -> None:
        """Make nobody wait for these chunks, and hand over nothing more of their partitions."""
        chunks = list(chunks)
        self._given_up.update(chunk.tp for chunk in chunks if not chunk.dropped)
        self.untrack(chunks)

    def is_over(self, chunk: Chunk) -> bool:
        """Whether the chunk is not to be worked on: its partition went elsewhere, or soon will."""
        return chunk.dropped or chunk.tp in self._given_up

    def ack(self, message: Chunk) -> bool:
        """Note that a chunk is done (called when the last agent of its topic has acknowledged it)."""
        message.acked = True
        self.untrack((message,))
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:  # noqa: ANN401 - Faust's own type
        return [tp for tp in self._frontier if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        chunks = self._frontier[tp]
        while chunks and chunks[0].acked:
            self._reached[tp] = chunks.popleft().last + 1
        return self._reached.get(tp)

    def _drop(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            chunks = self._frontier.pop(tp, ())
            for chunk in chunks:
                chunk.dropped = True
            self.untrack(chunks)
            self._reached.pop(tp, None)
            self._given_up.discard(tp)
            self.positions.forget(tp)
            self.on_buffer_drop(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is done, then forget the partitions' chunks."""
        # Faust stops the flow only if something was assigned, and then empties the buffers when it resumes.
        self.stop_flow()
        await super().on_partitions_revoked(revoked)
        self._drop(revoked)

    async def seek(self, partition: TP, offset: int) -> None:
        """Go to an offset; what was delivered before is forgotten."""
        self._drop([partition])
        await super().seek(partition, offset)

    async def perform_seek(self) -> None:
        """Note where the group stands, and seek nothing before the flow resumes.

        aiokafka positions what is newly assigned, and we never throw a fetched record away. Faust seeks
        because it does; its seek leaves partitions without a commit where they are, past the records thrown
        away.
        """
        with suppress(KafkaError, TimeoutError):  # then the lag counts from 0 until the first commit
            self.positions.begin(await self._thread.committed(self.assignment()))

    def _should_commit(self, tp: TP, offset: int) -> bool:
        # Faust counts a commit that was refused as done, and would not try again before there is more to do.
        return offset > self.positions.committed.get(tp, -1)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        committed: bool = await super()._commit(offsets)
        if committed:
            self.positions.committed.update(offsets)
        return committed

    @faust.Service.task  # type: ignore[untyped-decorator] # Faust is untyped for us
    async def _watch(self) -> None:
        """Ask the broker every few seconds: high-water marks come with deliveries, which an outage ends."""
        while not self.should_stop:
            await self.sleep(WATCH_S)
            try:
                await self._thread.check_group()
            except KafkaError as error:
                self.log.warning("the group refuses this worker, who asks again: %r", error)
            except (TimeoutError, ConsumerNotStarted):
                continue
            try:
                begins, ends = await self._thread.bounds(self.assignment())
            except (KafkaError, TimeoutError) as error:
                self.log.info("where the partitions end is unknown for now: %s", error)
            else:
                held = self.assignment()  # a rebalance may have come between question and answer
                self.positions.bounds(
                    {tp: begin for tp, begin in begins.items() if tp in held},
                    {tp: end for tp, end in ends.items() if tp in held},
                )

    def seen(self) -> dict[TP, Seen]:
        """What can be seen of every partition held; may be asked by any thread."""
        now_s = time.monotonic()
        seen: dict[TP, Seen] = {}
        try:
            held = self.assignment().intersection(self.positions.held())
        except ConsumerNotStarted:
            return seen
        for tp in held:
            waiting = (chunk.since_s for chunk in tuple(self._frontier.get(tp, ())) if not chunk.acked)
            head_of_line_s = now_s - next(waiting, now_s)
            seen[tp] = Seen(self.positions.lag(tp), head_of_line_s, self.positions.truncated.get(tp, 0))
        return seen

    async def _drain_messages(self, fetcher: driver.Service) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                active = self._get_active_partitions()
                patience_s = PRESSURE_POLL_S if self._buffered_partitions else FETCH_TIMEOUT_S
                if not active:
                    await self.sleep(patience_s)
                    continue
                assignment, records = await self._getmany(active, patience_s)
                while not (self.flow_active or self.should_stop or fetcher.should_stop):
                    await self.wait(self.can_resume_flow)
                # Records of an assignment that is over are fetched again, from the committed offset.
                if self.flow_active and assignment.active:
                    self._deliver(records)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    def _deliver(self, records: Mapping[TP, list[ConsumerRecord]]) -> None:
        # Never waits for room, so a rebalance finds nobody waiting: a full buffer stops the fetching of its
        # partitions, and takes in what one fetch of each (at most 1 MiB) has brought already.
        for partition, run in records.items():
            tp = TP(*partition)
            channels = self.app.topics._tp_index.get(tp, ())  # noqa: SLF001 - the conductor's index of who listens
            if run:
                self.positions.delivered(tp, run[0].offset, run[-1].offset, self.highwater(tp))
            for start in range(0, len(run) if channels else 0, CHUNK_MAX):
                part = run[start : start + CHUNK_MAX]
                chunk = Chunk(tp, part)
                chunk.incref(len(channels))
                self._frontier.setdefault(tp, deque()).append(chunk)
                event = self.app.create_event(None, part, None, chunk)
                for channel in channels:
                    channel.queue.put_nowait_enhanced(
                        event,
                        on_pressure_high=partial(self.on_buffer_full, tp),
                        # The same object every time: the queue keeps those it owes a call in a set.
                        on_pressure_drop=self._on_room.setdefault(tp, partial(self.on_buffer_drop, tp)),
                    )


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc] # Faust is untyped for us
    """The thread in which aiokafka fetches."""

    FETCH_WAIT_MS: ClassVar[int] = 20
    """How long the broker holds a fetch open that found nothing. The embedded one holds it even when records
    arrive; a real one answers at once, but a partition that was busy waits for the next fetch."""

    def _create_worker_consumer(self, transport: Transport) -> driver.aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.FETCH_WAIT_MS  # noqa: SLF001 - Faust fixes it at 1 500 ms
        return consumer

    async def _fetch_records(
        self,
        consumer: driver.aiokafka.AIOKafkaConsumer,
        *args: Any,  # noqa: ANN401 - passed on
        **kwargs: Any,  # noqa: ANN401 - passed on
    ) -> tuple[Any, Mapping[TP, list[ConsumerRecord]]]:
        # The assignment tells records of before a rebalance from those of after it.
        records = await super()._fetch_records(consumer, *args, **kwargs)
        return consumer._subscription.subscription.assignment, records  # noqa: SLF001 - not public

    async def check_group(self) -> None:
        """Raise what the group has answered that aiokafka does not retry by itself.

        It waits with that for a caller of its own ``getmany``, whom Faust goes around: without this a join
        that the broker refused once would never be tried again.
        """
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001 - its errors are nowhere else

        async def check() -> dict[str, str]:
            coordinator.check_errors()
            return {}

        await self._ask(check())

    async def committed(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Where the group stands in those partitions that it has committed before."""
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001 - one request for all partitions
        found = await self._ask(coordinator.fetch_committed_offsets(list(partitions)))
        return {TP(*tp): each.offset for tp, each in found.items() if each.offset >= 0}

    async def bounds(self, partitions: Iterable[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        """Return the first and the next offset of each partition, as the broker has them."""
        consumer, wanted = self._ensure_consumer(), list(partitions)
        if not wanted:
            return {}, {}
        begins = await self._ask(consumer.beginning_offsets(wanted))
        ends = await self._ask(consumer.end_offsets(wanted))
        return {TP(*tp): at for tp, at in begins.items()}, {TP(*tp): at for tp, at in ends.items()}

    async def _ask(self, question: Coroutine[Any, Any, Mapping[Any, Any]]) -> Mapping[Any, Any]:
        # Not by `call_thread`: an outage would hold its two workers, who are there to fetch and to commit.
        async def bounded() -> Mapping[Any, Any]:
            async with asyncio.timeout(WATCH_S):
                return await question

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(bounded(), self.thread_loop))


class Producer(driver.Producer):  # type: ignore[misc] # Faust is untyped for us
    """Faust's producer, but its retries neither double nor reorder records (Faust: for exactly-once only)."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):  # type: ignore[misc] # Faust is untyped for us
    """The transport behind ``leadkafka://`` URLs."""

    Consumer = ChunkConsumer
    Producer = Producer
