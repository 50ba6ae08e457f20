"""What Prometheus reads: whole batches in one step, the right buckets, nothing about persons."""

from __future__ import annotations

import asyncio
import bisect
import math
import urllib.request

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from router.metrics import BOUNDS_S, QUEUES_MAX, Durations, Metrics, Partitions
from router.positions import Seen


def samples(registry):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def durations(label=None):
    registry, metric = CollectorRegistry(), Durations("x_seconds", "Some.", label)
    registry.register(metric)
    return registry, metric


@given(st.lists(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS_S), max_size=20), min_size=1, max_size=4))
def test_a_histogram_counts_what_prometheus_counts(batches):
    """A value on a bound belongs below it (``le``), the last bucket holds all."""
    registry, metric = durations()
    for batch in batches:
        metric.observe(batch)
    values = sorted(value for batch in batches for value in batch)
    found = samples(registry)
    for bound in BOUNDS_S:
        below = bisect.bisect_right(values, bound)
        assert found["x_seconds_bucket", (("le", str(bound)),)] == below
    assert found["x_seconds_bucket", (("le", "+Inf"),)] == found["x_seconds_count", ()] == len(values)
    assert math.isclose(found["x_seconds_sum", ()], math.fsum(values), abs_tol=1e-9)


def test_a_histogram_keeps_its_labels_apart():
    registry, metric = durations("stage")
    metric.observe(0.004, "claim")
    metric.observe([0.004, 99.0], "route")
    found = samples(registry)
    assert found["x_seconds_count", (("stage", "claim"),)] == 1
    assert found["x_seconds_bucket", (("le", "60.0"), ("stage", "route"))] == 1
    assert found["x_seconds_count", (("stage", "route"),)] == 2


def test_a_histogram_may_be_read_while_it_counts():
    """The listener answers in a thread of its own, also between the steps of the first observation."""
    registry, metric = durations("stage")

    class Watched(dict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            samples(registry)

    metric._counts, metric._sums = Watched(), Watched()
    metric.observe(0.1, "claim")
    assert samples(registry)["x_seconds_sum", (("stage", "claim"),)] == 0.1


def test_a_timed_step_is_counted_whether_it_succeeds_or_not():
    metrics = Metrics("1")

    async def step(number, *, fails=False):
        """What it does."""
        if fails:
            raise LookupError
        return number + 1

    timed = metrics.timed("claim", step)
    assert timed.__doc__ == "What it does."
    assert asyncio.run(timed(1)) == 2
    with pytest.raises(LookupError):
        asyncio.run(timed(1, fails=True))
    assert samples(metrics.registry)["leadrouter_stage_seconds_count", (("stage", "claim"),)] == 2


def test_claims_are_counted_by_result():
    metrics = Metrics("1")
    metrics.count_claims(["ok", "ok", "waiting"])
    metrics.count_claims([])
    metrics.count_claims(["ok", "replay", "conflict"])
    found = samples(metrics.registry)
    for result, count in {"ok": 3, "waiting": 1, "replay": 1, "conflict": 1}.items():
        assert found["leadrouter_claim_total", (("result", result),)] == count


def test_what_is_seen_of_a_partition_is_read_when_somebody_asks():
    metrics, seen = Metrics("1"), {TP("leads", 0): Seen(5, 0.5, 2)}
    metrics.registry.register(Partitions(lambda: seen))
    seen[TP("leads", 1)] = Seen(7, 0.0, 0)
    found = samples(metrics.registry)
    for partition, (lag, head, truncated) in (("0", (5, 0.5, 2)), ("1", (7, 0, 0))):
        place = (("partition", partition), ("topic", "leads"))
        assert found["leadrouter_consumer_lag_records", place] == lag
        assert found["leadrouter_head_of_line_seconds", place] == head
        assert found["leadrouter_truncated_records_total", place] == truncated


def test_t03_metrics_are_served_on_the_loopback_address_only_and_parse(monkeypatch):
    import router.metrics as module  # noqa: PLC0415 - to see what its listener is bound to

    servers, start = [], module.start_http_server

    def noted(*args, **kwargs):
        servers.append(start(*args, **kwargs))
        return servers[-1]

    monkeypatch.setattr(module, "start_http_server", noted)
    metrics = Metrics("1.2.3")
    metrics.events.labels("leads", "routed").inc(3)
    metrics.decision.observe([0.01, 0.02])
    port = metrics.serve(0)
    ((server, thread),) = servers
    try:
        assert server.server_address == ("127.0.0.1", port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["leadrouter_events"].samples[0].value == 3
    assert families["leadrouter_decision_seconds"].type == "histogram"
    assert families["leadrouter_build_info"].samples[0].labels == {"version": "1.2.3"}


def test_t06_no_label_names_a_person():
    metrics = Metrics("1")
    metrics.registry.register(Partitions(lambda: {TP("leads", 0): Seen(1, 0.0, 0)}))
    metrics.refused.labels("guides", "invalid").inc()
    metrics.dead_letters.labels("bug").inc()
    metrics.events.labels("leads", "routed").inc()
    metrics.count_claims(["ok"])
    metrics.stage.observe(0.1, "claim")
    labels = {
        name
        for family in metrics.registry.collect()
        if family.name.startswith("leadrouter_")
        for sample in family.samples
        for name in sample.labels
    }
    assert labels == {"topic", "partition", "outcome", "reason", "result", "stage", "le", "version"}


def test_t18_however_many_queues_there_are_a_bounded_number_is_shown_the_oldest_first():
    """A queue that is empty again is shown no more."""
    metrics = Metrics("1")
    oldest_ms = {("b", f"q{number}"): 10_000 - number * 10 for number in range(QUEUES_MAX + 9)}
    metrics.tell_waiting(oldest_ms, 11_000)
    [family] = [each for each in metrics.registry.collect() if "oldest_waiting" in each.name]
    shown = {sample.labels["queue"]: sample.value for sample in family.samples}
    assert len(shown) == QUEUES_MAX + 1
    assert (shown[f"q{QUEUES_MAX + 8}"], shown["other"], "q0" in shown) == (1.58, 1.08, False)
    metrics.tell_waiting({}, 11_000)
    [family] = [each for each in metrics.registry.collect() if "oldest_waiting" in each.name]
    assert family.samples == []
