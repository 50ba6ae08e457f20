"""What the handlers share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from router.web.admission import Allowance
from router.web.answers import Answers
from router.web.metrics import GatewayMetrics
from router.web.tail import Tail
from router.web.tokens import Caller


def _now_s() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Parts:
    """One gateway's parts; ``now_s`` is the clock that tokens go by."""

    secrets: tuple[str, ...] = field(repr=False)
    answers: Answers
    tail: Tail
    metrics: GatewayMetrics
    allowance: Allowance = field(default_factory=Allowance)
    now_s: Callable[[], int] = _now_s


PARTS = web.AppKey("parts", Parts)
#: Who calls, by a token that was verified: on every request of a guide's route.
CALLER = web.RequestKey("caller", Caller)
