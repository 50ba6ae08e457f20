"""What the gateway tells Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

#: Bounds in seconds: the budget of 1 s from assignment to screen lies in the middle.
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class GatewayMetrics:
    """All metrics of one gateway, on a registry of its own; labels come from closed sets."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.connections = Gauge(
            "leadrouter_push_connections", "Streams that are open.", registry=self.registry
        )
        self.push = Histogram(
            "leadrouter_push_seconds",
            "From a card's own time to its last byte written.",
            ("channel",),
            buckets=_BOUNDS_S,
            registry=self.registry,
        )
        self.ended = Counter(
            "leadrouter_push_ended",
            "Streams that were ended here, by why.",
            ("reason",),
            registry=self.registry,
        )
        self.responses = Counter(
            "leadrouter_responses",
            "Guides' responses by their outcome.",
            ("outcome",),
            registry=self.registry,
        )
        build = Info("leadrouter_build", "What is running.", registry=self.registry)
        build.info({"version": version})
