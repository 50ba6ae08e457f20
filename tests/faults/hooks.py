"""Faults that are installed into a worker before it starts, each by a key of the specification.

kill: {point: text}: SIGKILL at that point of the way of a batch that holds the text.
    Routing, and following responses: read -c1- decode -c2- score -c3- claim -c4- publish -c5- acknowledge
    -c6- commit; the projector: read -p1- keep journeys -p2- deliver cards -p3- acknowledge;
    due times of leads that hold the text: publish -t1- forget;
    the ledger: decide -m1- post -m2- publish -m3- acknowledge.
bug: text: the body raises for a record that holds it.
hang: text: the work on a batch with such a record never finishes.
slow_s: seconds that the work on every batch of inputs takes longer.
settings: settings of Faust that differ.
redis, produce, commit: see ``tests.faults.clients``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextvars import ContextVar
from functools import wraps

import router.judging
from router import transport
from router.flow import Flow
from router.ledger.ledger import Ledger
from router.projector import Projector
from router.state.arbiter import Arbiter
from router.state.money import Money
from tests.faults import clients

VARIABLE = "FAULTS"
#: The values of the batch under way, in the task that carries it.
_batch = ContextVar("batch", default=())


def install(spec):
    """Install everything the specification names."""
    settings = transport.app_settings
    transport.app_settings = lambda: {**settings(), **spec.get("settings", {})}
    deaths = spec.get("kill", {})
    for point in deaths.keys() & SEAMS.keys():
        SEAMS[point](deaths[point])
    for name in ("route", "follow"):
        _wrap_work(Flow, name, spec, deaths.get("c1"), deaths.get("c5"))
    _wrap_work(Projector, "project", spec, None, deaths.get("p3"))
    _wrap_work(Ledger, "orders", spec, None, deaths.get("m3"))
    clients.install(spec)


def _wrap_work(cls, name, spec, dies_before, dies_after):
    work = getattr(cls, name)

    @wraps(work)
    async def hooked(self, *args, **kwargs):
        token = _batch.set([record.value or b"" for record in args[-1]])
        try:
            await _linger_and_die(dies_before)
            if _holds(spec.get("bug")):
                raise LookupError("planted")
            if _holds(spec.get("hang")):
                await asyncio.Event().wait()
            if cls is Flow:
                await asyncio.sleep(spec.get("slow_s", 0))
            done = await work(self, *args, **kwargs)
            await _linger_and_die(dies_after)
            return done
        finally:
            _batch.reset(token)

    setattr(cls, name, hooked)


def _holds(text):
    return text is not None and any(text.encode() in value for value in _batch.get())


async def _linger_and_die(text):
    if _holds(text):
        await asyncio.sleep(LINGER_S)
        _die()


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner, name):
    def at(text):
        step = getattr(owner, name)

        async def hooked(*args):
            await _linger_and_die(text)
            return await step(*args)

        setattr(owner, name, hooked)

    return at


def _after(owner, name):
    def at(text):
        step = getattr(owner, name)

        async def hooked(*args):
            answer = await step(*args)
            await _linger_and_die(text)
            return answer

        setattr(owner, name, hooked)

    return at


def _before_ranking(text):
    rank = router.judging.rank

    def hooked(*args):
        if _holds(text):
            _die()
        return rank(*args)

    router.judging.rank = hooked


def _after_acknowledging(text):
    ack = transport.Batch.ack

    def hooked(self):
        ack(self)
        if any(text.encode() in (record.value or b"") for record in self.records):
            _die()

    transport.Batch.ack = hooked


def _before_forgetting(text):
    forget = Arbiter.forget_due

    async def hooked(self, name, members):
        if any(text.encode() in member for member, _ in members):
            _die()
        await forget(self, name, members)

    Arbiter.forget_due = hooked


#: Where a worker with a batch may be killed. At most of these it lingers first, so that anything acknowledged
#: too early would be committed by the time it dies.
MONEY_POINTS = ("m1", "m2", "m3")
POINTS = ("c1", "c2", "c3", "c4", "c5", "c6", "p1", "p2", "p3")
LINGER_S = 0.8
#: The seams of those that are not at the ends of the work.
SEAMS = {
    "c2": _before_ranking,
    "c3": _before(Arbiter, "claim"),
    "c4": _after(Arbiter, "claim"),
    "c6": _after_acknowledging,
    "p1": _before(Arbiter, "keep_journeys"),
    "p2": _before(Arbiter, "deliver_cards"),
    "t1": _before_forgetting,
    "m1": _before(Money, "post"),
    "m2": _after(Money, "post"),
}
