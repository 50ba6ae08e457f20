"""Leads for what is open already: each is merged into the lead in which its member asks for the same."""

from __future__ import annotations

from dataclasses import dataclass

from router.reference import Reference
from router.rules.intake import Request
from router.rules.meeting import asked_for, first_of_each, merged, named, whom
from router.rules.responding import is_open
from router.state.arbiter import Arbiter


@dataclass(frozen=True, slots=True)
class Merging:
    """Costs a round trip for those that ask for something in particular, two more where one meets another."""

    arbiter: Arbiter
    reference: Reference

    async def merge(self, requests: list[Request]) -> list[Request]:
        """The same requests, in their order; those that are merged are over."""
        rows = [row for row, each in enumerate(requests) if asked_for(each) and not each.over]
        windows = {
            row: self.reference.policy(requests[row].event.brand).merge_window_s * 1000 for row in rows
        }
        asked = {row: asked_for(requests[row]) for row in rows if windows[row]}
        met = await self.arbiter.meet([(requests[row], what, windows[row]) for row, what in asked.items()])
        suspects = {row: into for row, into in zip(asked, met, strict=True) if into}
        pasts, _ = await self.arbiter.recall([whom(requests[row], into) for row, into in suspects.items()])
        here = first_of_each(requests)
        out, again = list(requests), []
        for (row, into), past in zip(suspects.items(), pasts, strict=True):
            # one that is not known yet may be new in this batch; of one that is known its state counts alone
            first = here.get(named(requests[row], into), row)
            if is_open(past) or (not past.steps and first < row and not requests[first].over):
                out[row] = merged(requests[row], into)
            else:
                again.append((requests[row], asked[row], windows[row]))
        await self.arbiter.meet(again, force=True)
        return out
