"""What is said about members and what happens with them, from the log into Redis: bindings and touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.errors import OutageError
from router.rules.intake import Record, Refusal, decoded
from router.rules.money.deeds import of_touch
from router.rules.ownership import Contract, Fact, fact_of, follow
from router.rules.touches import touched
from router.state.members import Member, Members
from topics.bindings import Binding
from topics.touches import Touch

#: How often contracts are worked out anew because somebody else has written them meanwhile.
TRIES_MAX = 8


@dataclass(frozen=True, slots=True)
class Tracking:
    """Both may be given the same records again, in any order."""

    members: Members

    async def bind(self, records: Sequence[Record]) -> list[Refusal]:
        """Follow a batch of ``bindings``; what is bad or over a budget comes back refused."""
        events, refusals = decoded(Binding, records)
        news: dict[Member, list[Fact]] = {}
        for binding, _ in events:
            news.setdefault((binding.brand, binding.member_id), []).append(fact_of(binding))
        made = await self._follow(news)
        await self.members.enter_books(made.items())
        for binding, record in events:
            if binding.command_id in made[binding.brand, binding.member_id].refused:
                detail = f"command_id {binding.command_id}: the third hard transfer within 90 days"
                refusals.append(Refusal(record, "transfer_budget", detail))
        return refusals

    async def touch(self, records: Sequence[Record]) -> list[Refusal]:
        """Note a batch of ``touches``; what is bad comes back refused."""
        events, refusals = decoded(Touch, records)
        await self.members.touch([touched(touch) for touch, _ in events])
        await self.members.note_deeds([deed for touch, _ in events for deed in of_touch(touch)])
        return refusals

    async def _follow(self, news: Mapping[Member, Sequence[Fact]]) -> dict[Member, Contract]:
        out: dict[Member, Contract] = {}
        for _ in range(TRIES_MAX):
            left = [member for member in news if member not in out]
            if not left:
                break
            held = await self.members.contracts(left)
            made = [
                (member, text, follow(contract, news[member]))
                for member, (text, contract) in zip(left, held, strict=True)
            ]
            written = await self.members.write(made)
            out |= {member: contract for (member, _, contract), one in zip(made, written, strict=True) if one}
        else:
            raise OutageError("contracts are being written by somebody else all the time")
        return out
