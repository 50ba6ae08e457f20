"""What must become of each input, whatever goes wrong; only who gets a lead is left open."""

from __future__ import annotations

from topics.catalog import LEADS


class Expected:
    """Inputs as they were sent, told one by one."""

    def __init__(self):
        self.outcomes = {}
        self._contents = {}

    def note(self, sent, place):
        """A lead is known by its first content; a later version of a reservation is a change, no conflict."""
        if sent.reason:
            self.outcomes[place] = sent.reason
        elif sent.topic == LEADS.name and self._contents.setdefault(sent.name, sent.value) != sent.value:
            self.outcomes[place] = "conflict"
        elif sent.name:
            self.outcomes[sent.name] = "answered"
