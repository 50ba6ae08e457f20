"""What must become of each input, whatever goes wrong; only who gets a lead is left open."""

from __future__ import annotations

import orjson

from topics.catalog import LEADS, RESERVATIONS

INPUTS = (LEADS.name, RESERVATIONS.name)


class Expected:
    """Inputs as they were sent, told one by one."""

    def __init__(self):
        self.outcomes = {}
        self._contents = {}

    def note(self, sent, place):
        """A lead, and each version of a reservation, is known by its first content."""
        name = sent.name
        if sent.topic == RESERVATIONS.name and name:
            name = (name, orjson.loads(sent.value)["version"])
        if sent.reason:
            self.outcomes[place] = sent.reason
        elif name and sent.topic in INPUTS and self._contents.setdefault(name, sent.value) != sent.value:
            self.outcomes[place] = "conflict"
        elif sent.name:
            self.outcomes[sent.name] = "answered"
