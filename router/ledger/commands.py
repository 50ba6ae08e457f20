"""What becomes of ``ledger-commands``: vest, close, pay, dispute, release, adjust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from router.errors import EffectError
from router.ledger.carrying import Ask, Carrier
from router.rules.intake import Record, Refusal
from router.rules.money.entries import Change, adjust, close, freeze, pay, settle, take_off, vest
from router.rules.money.lines import Inputs
from router.rules.money.postings import Page, month, sealed
from router.rules.money.standing import Standing, said
from router.state import keys
from router.state.money import Write
from topics.commissions import LedgerCommand

#: Orders that a command looks at in one go.
CHUNK = 500
#: How far the clocks of the broker and of the router's timers may be apart.
CLOCKS_MS = 60_000

Move = Callable[[Page, str, Standing, Inputs, LedgerCommand], Change]
"""What becomes of an order that a command finds waiting."""


@dataclass(frozen=True, slots=True)
class Commands:
    """Each returns the refusals; what was posted the broker has by then."""

    carrier: Carrier

    async def carry_out(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Any command but ``vest``."""
        return await _DO[command.kind](self, command, record)

    async def vest(self, events: Sequence[tuple[LedgerCommand, Record]]) -> list[Refusal]:
        """The rights windows of orders are over."""
        asks = [
            Ask(
                command.brand,
                command.order_id,
                record,
                partial(_vested, command, at_ms=_time_of(command, record)),
            )
            for command, record in events
            if command.order_id is not None
        ]
        done = await self.carrier.carry(asks)
        await self.carrier.publish(done.values)
        lacking = [record for command, record in events if command.order_id is None]
        return [*done.refusals, *(_refused(record, "order_id: is required to vest") for record in lacking)]

    async def _close(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Settle what was earned until the end of a period, then seal it, and those before it."""
        period, brand = command.period, command.brand
        if period is None:
            return [_refused(record, "period: is required to close")]
        if period > month(_time_of(command, record), self.carrier.offset_h(brand)):
            return [_refused(record, f"period: {period} has not begun")]
        if not (await self.carrier.money.heads([brand]))[brand].unsealed(period):
            return []  # closed before
        refusals = await self._sweep(command, record, keys.earned(brand), settle)
        while unsealed := (await self.carrier.money.heads([brand]))[brand].unsealed(period):
            await self._seal(command, unsealed)
        return refusals

    async def _seal(self, command: LedgerCommand, period: str) -> None:
        """Let nothing more be posted to a period, however busy it is, then seal what it has become."""
        brand, offset_h = command.brand, self.carrier.offset_h(command.brand)
        await self.carrier.money.shut(brand, period)
        entries = await self.carrier.money.chain(brand, period)
        seal = sealed(period, entries, (await self.carrier.money.heads([brand]))[brand].chain)
        draft = close(Page(brand, period, offset_h), seal, command)
        [(result, values)] = await self.carrier.money.post(
            [Write(brand, Change("", Standing(), (draft,)), b"", offset_h, seal)]
        )
        if result == "short":
            raise EffectError(f"{brand}: {period} cannot be sealed: its chain and its count differ")
        await self.carrier.publish([(brand, value) for value in values])

    async def _pay(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Pay what was settled until the end of a closed period."""
        brand, period = command.brand, command.period
        if period is None or period >= (await self.carrier.money.heads([brand]))[brand].since:
            return [_refused(record, f"period: {period} is not closed, nothing of it can be paid")]
        if any(line.fen for line in command.lines):
            return [_refused(record, "lines: name whom to pay, with 0 fen: all that is settled is paid")]
        refusals = await self._sweep(command, record, keys.settled(brand), pay)
        # only now it is known how much there is to take it off from
        return refusals + await self._sweep(command, record, keys.settled(brand), take_off)

    async def _sweep(
        self,
        command: LedgerCommand,
        record: Record,
        key: str,
        move: Move,
    ) -> list[Refusal]:
        """Move the orders that wait in a sorted set up to the command's period, chunk by chunk."""
        until, refusals = int((command.period or "").replace("-", "")), list[Refusal]()
        async for names in self.carrier.money.waiting(key, until, CHUNK):
            done = await self.carrier.carry(
                [Ask(command.brand, name, record, partial(_swept, command, name, move)) for name in names]
            )
            await self.carrier.publish(done.values)
            refusals += done.refusals
        return refusals

    async def dispute(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Freeze an order, or let it go on; which one the command says itself, so all who read it agree."""
        told = said([command])
        if not told:
            what = (
                "order_id: is required, a posting alone is forgotten or not yet known by some who read this"
            )
            return [_refused(record, what)]
        [order_id] = told
        decide = partial(_frozen, order_id, frozen=command.kind == "dispute")
        return (await self.carrier.carry([Ask(command.brand, order_id, record, decide)])).refusals

    async def _adjust(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Post a correction by hand."""
        brand = command.brand
        parties = {
            name: msgspec.to_builtins(party)
            for line in command.lines
            for name, party in self.carrier.reference.parties(brand, line.role, line.party).items()
        }
        above_fen = self.carrier.reference.policy(brand).commission.adjust_check_fen
        decide = partial(_adjusted, command, parties, above_fen)
        name = adjust(Page(brand, "", 0), Standing(), command, parties, above_fen).order_id
        done = await self.carrier.carry([Ask(brand, name, record, decide)])
        await self.carrier.publish(done.values)
        return done.refusals


_DO = {
    "close": Commands._close,  # noqa: SLF001 - its own
    "pay": Commands._pay,  # noqa: SLF001 - its own
    "dispute": Commands.dispute,
    "release": Commands.dispute,
    "adjust": Commands._adjust,  # noqa: SLF001 - its own
}


def _time_of(command: LedgerCommand, record: Record) -> int:
    """When a command was given, epoch ms: by the broker's clock where its own is ahead of that."""
    if record.timestamp <= 0:
        return command.occurred_at_ms
    return min(command.occurred_at_ms, record.timestamp + CLOCKS_MS)


def _vested(
    command: LedgerCommand, page: Page, standing: Standing, inputs: Inputs, _: Inputs | None, *, at_ms: int
) -> Change:
    return vest(page, command.order_id or "", standing, inputs.get("parties", {}), at_ms)


def _swept(  # noqa: PLR0913, PLR0917 - what the step is told, then what it is asked of
    command: LedgerCommand,
    order_id: str,
    move: Move,
    page: Page,
    standing: Standing,
    inputs: Inputs,
    _: Inputs | None,
) -> Change:
    return move(page, order_id, standing, inputs.get("parties", {}), command)


def _frozen(
    order_id: str, _: Page, standing: Standing, __: Inputs, ___: Inputs | None, *, frozen: bool
) -> Change:
    return freeze(order_id, standing, frozen=frozen)


def _adjusted(
    command: LedgerCommand,
    parties: Inputs,
    above_fen: int,
    page: Page,
    standing: Standing,
    _: Inputs,
    __: Inputs | None,
) -> Change:
    return adjust(page, standing, command, parties, above_fen)


def _refused(record: Record, what: str) -> Refusal:
    return Refusal(record, "command_refused", what)
