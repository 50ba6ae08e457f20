"""Leads for what is open already: each is merged into the lead in which its member asks for the same."""

from __future__ import annotations

from dataclasses import dataclass

from router.errors import OutageError
from router.reference import Reference
from router.rules.intake import Request
from router.rules.meeting import asked_for, first_of_each, merged, named, whom
from router.rules.responding import is_open
from router.state.arbiter import Arbiter

#: A lead that has asked and is not placed so long after has been set aside, and stands for nothing.
ON_ITS_WAY_MS = 5_000


@dataclass(frozen=True, slots=True)
class Merging:
    """Costs a round trip for those that ask for something in particular, two more where one meets another."""

    arbiter: Arbiter
    reference: Reference

    async def merge(self, requests: list[Request]) -> list[Request]:
        """The same requests, in their order; those that are merged are over.

        Raises:
            OutageError: another worker is just placing a lead for the same: look again.

        """
        rows = [row for row, each in enumerate(requests) if asked_for(each) and not each.over]
        windows = {
            row: self.reference.policy(requests[row].event.brand).merge_window_s * 1000 for row in rows
        }
        asked = {row: asked_for(requests[row]) for row in rows if windows[row]}
        here, out, closed = first_of_each(requests), list(requests), dict.fromkeys(asked, "")
        while asked:
            met = await self.arbiter.meet(
                [(requests[row], what, windows[row], closed[row]) for row, what in asked.items()]
            )
            suspects = [(row, *stands) for row, stands in zip(asked, met, strict=True) if stands[0]]
            leads = [whom(requests[row], into) for row, into, _ in suspects]
            pasts = (await self.arbiter.recall(leads))[0] if leads else []
            asked_now, asked = asked, {}
            for (row, into, age_ms), past in zip(suspects, pasts, strict=True):
                first = here.get(named(requests[row], into), row)
                # one not known yet may be new in this batch; of one that is known its state counts alone
                new_here = not past.steps and first < row
                if is_open(past) or (new_here and not requests[first].over):
                    out[row] = merged(requests[row], into)
                elif not past.steps and not new_here and age_ms < ON_ITS_WAY_MS:
                    raise OutageError("a lead for the same is on its way")
                else:  # closed: its place is free, unless somebody else has taken it by now
                    asked[row], closed[row] = asked_now[row], into
        return out
