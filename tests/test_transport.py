"""The promises of the transport: every record once, in order, and never committed before it is done."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict, deque
from pathlib import Path

import faust
import pytest
from aiokafka import ConsumerRecord
from confluent_kafka import Consumer, Producer, TopicPartition
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from router import transport
from router.errors import ConfigError
from tests.parts import RealKafka, create_topics

TP0 = TP("leads", 0)
PARTITIONS = 4
# The embedded broker completes a rebalance after the session timeout less one second.
QUICK = {"broker_session_timeout": 3.0, "broker_heartbeat_interval": 0.5}


# --- in this process: an app that is never started, fed by hand


def record(offset, tp=TP0, value=b"x"):
    return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, None, value, None, 0, len(value), ())


@pytest.fixture
async def app(monkeypatch):
    app = faust.App("test", broker=transport.broker_url("kafka://127.0.0.1:1"), **transport.app_settings())
    monkeypatch.setattr(type(app.consumer), "highwater", lambda *_: 0)
    app.flow_control.resume()
    yield app
    app.consumer._thread.thread_loop.close()


@pytest.fixture
async def stream(app):
    """A stream that listens to partitions 0 and 1."""
    stream = app.topic("leads").stream()
    for partition in (0, 1):
        app.topics._tp_index[TP("leads", partition)] = {stream.channel}
    return stream


def deliver(app, *offsets, tp=TP0):
    app.consumer._deliver({tp: [record(offset, tp) for offset in offsets]})


def offsets(batch):
    return [each.offset for each in batch.records]


async def test_acknowledging_a_later_batch_first_never_commits_past_the_earlier_one(app, stream):
    deliver(app, *range(300))
    batches = stream.batches(1, 0)
    first, second = await anext(batches), await anext(batches)
    assert (offsets(first)[-1], offsets(second)[0]) == (255, 256)
    second.ack()
    assert app.consumer._filter_committable_offsets([TP0]) == {}
    first.ack()
    assert app.consumer._filter_committable_offsets([TP0]) == {TP0: 300}


async def test_a_batch_is_acknowledged_once_and_a_released_one_never(app, stream):
    deliver(app, 0)
    deliver(app, 1)
    batches = stream.batches(1, 0)
    first, second = await anext(batches), await anext(batches)
    assert len(app.consumer.unacked) == 2
    second.ack()
    second.release()
    first.release()
    first.ack()
    assert not app.consumer.unacked
    assert app.consumer._filter_committable_offsets([TP0]) == {}


async def test_two_agents_of_one_topic_must_both_acknowledge(app, stream):
    other = app.topic("leads").stream()
    app.topics._tp_index[TP0].add(other.channel)
    deliver(app, 0)
    (await anext(stream.batches(1, 0))).ack()
    assert app.consumer._filter_committable_offsets([TP0]) == {}
    (await anext(other.batches(1, 0))).ack()
    assert app.consumer._filter_committable_offsets([TP0]) == {TP0: 1}


async def test_a_restarted_agent_gets_the_batches_it_left_first_with_their_attempt(app, stream):
    for offset in range(4):
        deliver(app, offset)
    batches = stream.batches(1, 0)
    first, second, third = [await anext(batches) for _ in range(3)]
    second.ack()
    again = stream.batches(1, 0)
    assert [await anext(again), await anext(again)] == [first, third]
    assert (first.attempt, second.attempt, third.attempt) == (1, 0, 1)
    fresh = await anext(again)
    assert (offsets(fresh), fresh.attempt) == ([3], 0)


async def test_a_batch_takes_whole_chunks_of_what_is_there(app, stream):
    deliver(app, *range(600))
    deliver(app, 7, tp=TP("leads", 1))
    batches = stream.batches(257, 0)
    assert offsets(await anext(batches)) == list(range(512))
    assert offsets(await anext(batches)) == [*range(512, 600), 7]


async def test_it_lingers_for_more_only_when_asked(app, stream):
    deliver(app, 0)
    asyncio.get_running_loop().call_later(0.05, deliver, app, 1)
    batch = await anext(stream.batches(2, 30))
    assert offsets(batch) == [0, 1]
    batch.ack()
    deliver(app, 2)
    begun = time.monotonic()
    batch = await anext(stream.batches(9, 0.1))
    assert offsets(batch) == [2]
    assert 0.09 < time.monotonic() - begun < 5
    batch.ack()
    deliver(app, 3)
    assert offsets(await asyncio.wait_for(anext(stream.batches(9, 0)), 5)) == [3]


async def test_a_stop_ends_the_stream_and_gives_up_the_batch_that_lingers(app, stream):
    deliver(app, 0)
    batches = stream.batches(9, 30)
    asyncio.get_running_loop().call_later(0.05, stream.channel._throw, StopAsyncIteration())
    assert [batch async for batch in batches] == []
    assert not app.consumer.unacked


async def test_a_revoked_partition_makes_its_batches_stale_and_is_never_committed(app, stream):
    deliver(app, 0)
    deliver(app, 5, tp=TP("leads", 1))
    batches = stream.batches(1, 0)
    gone, kept = await anext(batches), await anext(batches)
    deliver(app, 1)
    app.consumer._drop([TP0])
    assert (gone.stale, kept.stale) == (True, False)
    assert {message.partition for message in app.consumer.unacked} == {1}
    deliver(app, 0)  # the new assignment begins again; offset 1 of the old one is skipped in the queue
    assert offsets(await anext(batches)) == [0]
    gone.ack()
    kept.ack()
    assert app.consumer._filter_committable_offsets(app.consumer._frontier) == {TP("leads", 1): 6}
    assert [offsets(batch) for batch in stream._in_flight] == [[0]]


async def test_nothing_overtakes_a_batch_given_up_until_its_partition_comes_again(app, stream):
    for offset in range(2):
        deliver(app, offset)
    deliver(app, 5, tp=TP("leads", 1))
    batches = stream.batches(1, 0)
    (await anext(batches)).release()
    deliver(app, 2)  # fetched before the flow stops
    assert offsets(await anext(batches)) == [5]
    app.consumer._drop([TP0])
    deliver(app, 0)
    assert offsets(await anext(batches)) == [0]


async def test_a_revocation_commits_what_is_done_before_it_forgets(app, stream):
    consumer, committed = app.consumer, {}

    async def commit_and_wait(revoked):
        committed.update(consumer._filter_committable_offsets(revoked))

    consumer._on_partitions_revoked = commit_and_wait
    deliver(app, 0)
    (await anext(stream.batches(1, 0))).ack()
    await consumer.on_partitions_revoked({TP0})
    assert committed == {TP0: 1}
    assert not consumer._frontier


async def test_a_worker_that_had_nothing_delivers_only_when_the_flow_resumes(app):
    """Faust leaves the flow on then, and empties the buffers on resuming it: what came before was lost."""

    async def nothing(_):
        pass

    app.consumer._on_partitions_revoked = nothing
    await app.consumer.on_partitions_revoked(set())
    assert not app.consumer.flow_active


class Assignment:
    active = True


async def drain(app, fetches):
    """Run the consumer's loop over prepared fetches, each with what happens to the flow meanwhile."""

    async def getmany(*_):
        if not fetches:
            app.consumer._stopped.set()
            return Assignment, {}
        assignment, records, *meanwhile = fetches.pop(0)
        for change in meanwhile:
            change()
        await asyncio.sleep(0)
        return assignment, records

    app.consumer._getmany = getmany
    app.consumer._active_partitions = {TP0, TP("leads", 1)}
    await asyncio.wait_for(app.consumer._drain_messages(faust.Service()), 20)


async def test_f14_a_full_buffer_that_meets_a_rebalance_ends_nothing(app, stream):
    """Regression: a delivery that waited for room was cancelled when the rebalance emptied the buffer."""
    consumer = app.consumer
    old = Assignment()

    def rebalance():
        assert stream.channel.queue.full()
        assert consumer._buffered_partitions == {TP0}
        consumer.stop_flow()
        app.flow_control.suspend()
        app.flow_control.clear()
        consumer._drop([TP0])
        old.active = False
        asyncio.get_running_loop().call_later(0.05, resume)

    def resume():
        app.flow_control.resume()
        consumer.resume_flow()
        consumer._active_partitions.add(TP0)

    many = [record(offset) for offset in range(30 * transport.CHUNK_MAX)]
    other = [record(0, TP("leads", 1))]
    await drain(
        app, [(old, {TP0: many}), (old, {TP("leads", 1): other}, rebalance), (Assignment(), {TP0: many})]
    )
    assert stream.channel.queue.qsize() == 30
    batch = await anext(stream.batches(10**6, 0))
    assert offsets(batch) == list(range(len(many)))
    assert not consumer._buffered_partitions


async def test_records_fetched_while_the_flow_stands_still_are_delivered_when_it_resumes(app, stream):
    """Faust throws them away, and does not seek back when nothing was committed yet: they were lost."""
    later = asyncio.get_running_loop().call_later
    fetch = (
        Assignment(),
        {TP0: [record(0)]},
        app.consumer.stop_flow,
        lambda: later(0.05, app.consumer.resume_flow),
    )
    await drain(app, [fetch])
    assert offsets(await anext(stream.batches(9, 0))) == [0]


@given(data=st.data())
def test_the_commit_never_passes_an_unacknowledged_chunk_and_reaches_the_end(data):
    consumer = object.__new__(transport.ChunkConsumer)
    consumer._frontier, consumer._reached, consumer._unacked_messages = defaultdict(deque), {}, set()
    chunks, offset = [], 0
    for _ in range(data.draw(st.integers(1, 12), "chunks")):
        run = []
        for _ in range(data.draw(st.integers(1, 4), "records")):
            offset += data.draw(st.integers(1, 3), "step over a hole")
            run.append(record(offset))
        chunks.append(transport.Chunk(TP0, run))
    waiting = deque(chunks)
    undone = []
    while waiting or undone:
        if waiting and (not undone or data.draw(st.booleans(), "deliver")):
            chunk = waiting.popleft()
            chunk.incref(1)
            consumer._frontier[TP0].append(chunk)
            undone.append(chunk)
        else:
            undone.pop(data.draw(st.integers(0, len(undone) - 1), "which is done")).ack(consumer)
        done_up_to = next((chunk.offset for chunk in chunks if not chunk.acked), offset + 1)
        done = [chunk.last + 1 for chunk in chunks if chunk.acked and chunk.last < done_up_to]
        assert consumer._new_offset(TP0) == max(done, default=None)
    assert consumer._new_offset(TP0) == offset + 1


@pytest.mark.parametrize("text", ["kafka://a:9092,b:9093", "kafka://a:9092;kafka://b:9093", "a:9092, b:9093"])
def test_a_list_of_brokers_becomes_urls_of_this_transport(text):
    assert transport.broker_url(text) == ["leadkafka://a:9092", "leadkafka://b:9093"]


@pytest.mark.parametrize("text", ["", "kafka://", "kafka://a:9092,"])
def test_an_empty_broker_is_refused(text):
    with pytest.raises(ConfigError, match="kafka://host:9092"):
        transport.broker_url(text)


async def test_faust_takes_the_settings_and_finds_the_transport(app):
    assert isinstance(app.transport, transport.Transport)
    assert {name: getattr(app.conf, name) for name in transport.app_settings()} == transport.app_settings()


# --- workers in processes of their own, on the embedded and on a real broker


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def broker(request):
    real = request.param == "real" and request.getfixturevalue("real_kafka")
    return real or request.getfixturevalue("embedded_kafka")


class Spine:
    """A topic, its group and its workers."""

    def __init__(self, broker, folder):
        self.url, self.folder = broker.url, folder
        self.topic, self.group = f"leads-{uuid.uuid4().hex}", f"group-{uuid.uuid4().hex}"
        if isinstance(broker, RealKafka):  # the embedded one makes topics on their first use
            asyncio.run(create_topics(broker.url, {self.topic: PARTITIONS}))
        self.client = {"bootstrap.servers": broker.url.removeprefix("kafka://")}
        self.producer = Producer(self.client)
        self.sent = 0
        self.workers = []

    def send(self, count):
        """Spread so many numbered records over the partitions."""
        for number in range(self.sent, self.sent + count):
            self.producer.produce(self.topic, str(number), partition=number % PARTITIONS)
            self.producer.poll(0)
        self.sent += count
        assert self.producer.flush(20) == 0

    def work(self, plan, **spec):
        worker = Worker(
            {
                "url": self.url,
                "topic": self.topic,
                "group": self.group,
                "datadir": str(self.folder),
                "plan": plan,
                "batch_max": 256,
                "linger_s": 0,
                "pause_s": 0,
                "settings": {},
                **spec,
            }
        )
        self.workers.append(worker)
        return worker

    def told(self, said="done"):
        return [line for worker in self.workers for line in worker.lines if line["said"] == said]

    def done(self):
        return {int(value) for line in self.told() for _, _, value in line["records"]}

    def committed(self):
        consumer = Consumer({**self.client, "group.id": self.group})
        found = consumer.committed([TopicPartition(self.topic, number) for number in range(PARTITIONS)], 10)
        consumer.close()
        return [max(each.offset, 0) for each in found]

    def all_committed(self):
        return self.committed() == [self.sent // PARTITIONS] * PARTITIONS


class Worker:
    def __init__(self, spec):
        script = Path(__file__).with_name("spine_worker.py")
        self.log = (Path(spec["datadir"]) / f"{uuid.uuid4().hex}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(spec)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        self.lines.extend(map(json.loads, self.process.stdout))

    def end(self, number):
        """Send the signal; returns the seconds until the process had ended."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        self.reader.join()
        return time.monotonic() - begun

    def close(self):
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        self.reader.join()
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def spine(broker, tmp_path):
    spine = Spine(broker, tmp_path)
    yield spine
    for worker in spine.workers:
        worker.close()


def until(condition, within_s=20):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def test_every_record_comes_once_in_order_at_once_and_is_committed(spine):
    spine.send(20_000)
    worker = spine.work("ack")
    until(lambda: len(spine.done()) == spine.sent)
    until(spine.all_committed)
    begun = time.monotonic()
    spine.send(PARTITIONS)  # an idle worker, whose fetches are held open by the broker, answers soon
    until(lambda: len(spine.done()) == spine.sent)
    assert time.monotonic() - begun < 0.5
    assert worker.end(signal.SIGTERM) < 10
    assert spine.all_committed(), "a clean stop commits what is done"
    by_partition = defaultdict(list)
    for line in spine.told():
        for partition, offset, value in line["records"]:
            by_partition[partition].append((offset, int(value)))
    for partition, records in by_partition.items():
        assert records == [(n, n * PARTITIONS + partition) for n in range(spine.sent // PARTITIONS)]


def test_an_agent_that_raises_gets_the_same_batch_again(spine):
    spine.send(40)
    spine.work("raise_once")
    until(lambda: len(spine.done()) == spine.sent)
    (raised, *_), (done, *_) = spine.told("raised"), spine.told()
    assert done == {**raised, "said": "done", "attempt": 1}
    until(spine.all_committed)


def test_f01_what_a_killed_worker_left_undone_comes_to_the_next_one(spine):
    spine.send(400)
    first = spine.work("hold", settings=QUICK)
    until(lambda: spine.told("held"))
    first.end(signal.SIGKILL)
    assert spine.committed() == [0] * PARTITIONS
    spine.work("ack", settings=QUICK)
    until(lambda: len(spine.done()) == spine.sent)


def test_f11_a_batch_released_at_sigterm_stays_uncommitted_and_the_worker_stops(spine):
    spine.send(400)
    worker = spine.work("release_at_stop")
    until(lambda: spine.told("held"))
    assert worker.end(signal.SIGTERM) < 10
    assert worker.process.returncode == 0
    assert spine.committed() == [0] * PARTITIONS


def test_f10_a_batch_in_work_at_sigterm_is_finished_and_committed(spine):
    spine.send(4)
    worker = spine.work("slow", pause_s=1, linger_s=0.5)
    until(lambda: spine.told("begun"))
    assert worker.end(signal.SIGTERM) < 10
    assert spine.done()
    assert sum(spine.committed()) == len(spine.done())


def test_f14_workers_that_join_and_leave_with_full_buffers_lose_nothing(spine):
    """The small buffer is full most of the time, so every rebalance meets a full one."""
    small = {"batch_max": 50, "pause_s": 0.05, "settings": {"stream_buffer_maxsize": 2, **QUICK}}
    spine.send(20_000)
    first = spine.work("ack", **small)
    until(lambda: first.lines)
    second = spine.work("ack", **small)
    until(lambda: second.lines)
    assert first.end(signal.SIGTERM) < 10
    spine.send(4_000)
    until(lambda: len(spine.done()) == spine.sent)
    until(spine.all_committed)
    assert [worker.process.poll() for worker in spine.workers] == [0, None]
