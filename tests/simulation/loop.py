"""Made-up time: coroutines that run one at a time, in an order that hangs on nothing but the seed."""

from __future__ import annotations

import types
from heapq import heappop, heappush


class EndedError(BaseException):
    """The process ends itself at once; no handler of the product may catch it, as with ``os._exit``."""


class Process:
    """What is paused and killed as a whole."""

    def __init__(self, name):
        self.name = name
        self.alive = True
        self.stopping = False
        self.paused_until_s = 0.0


class Signal:
    """Something that coroutines wait for."""

    def __init__(self, loop):
        self._loop = loop
        self._waiting = []

    @types.coroutine
    def wait(self):
        yield self._waiting.append

    def notify(self):
        waiting, self._waiting[:] = list(self._waiting), []
        for task in waiting:
            self._loop.push(0.0, task)


@types.coroutine
def forever():
    """Never come back: what a killed process does."""
    yield lambda _: None


class Loop:
    """Runs ``(coroutine, process)`` tasks by their due times; ties go by who asked first."""

    def __init__(self):
        self.now_s = 0.0
        self._due = []
        self._count = 0
        self._tasks = {}

    @types.coroutine
    def sleep(self, delay_s):
        yield lambda task: self.push(delay_s, task)

    def spawn(self, coroutine, process=None, delay_s=0.0):
        """Start a coroutine; one without a process belongs to the surroundings, which are never killed."""
        task = (coroutine, process)
        self._tasks[coroutine] = None
        self.push(delay_s, task)

    def push(self, delay_s, task):
        self._count += 1
        heappush(self._due, (self.now_s + delay_s, self._count, task))

    def run_until(self, end_s):
        """Run what is due until a time."""
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, task = heappop(self._due)
            self._step(task)
        self.now_s = end_s

    def _step(self, task):
        coroutine, process = task
        if process is not None and process.alive and process.paused_until_s > self.now_s:
            self.push(process.paused_until_s - self.now_s, task)
            return
        try:
            if process is None or process.alive:
                suspend = coroutine.send(None)
                if process is None or process.alive:
                    suspend(task)
                    return
        except (StopIteration, EndedError):
            pass
        self._tasks.pop(coroutine)
        coroutine.close()

    def close(self):
        """Drop whatever is left."""
        for coroutine in self._tasks:
            coroutine.close()
