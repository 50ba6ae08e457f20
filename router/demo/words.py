"""What the demo and the audit say to people."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from router.audit import Report

_REDRAW_S = 0.2
_PLAIN_LINE_S = 3.0
_ALL_WELL = (
    "nothing lost, nobody assigned twice or over capacity, no slot sold twice, "
    "no price zone crossed, all in order"
)
_PAID_WELL = ", every fen of commission with who is entitled to it"


class ProgressLine:
    """One line that is drawn again and again on a terminal; elsewhere a plain line every few seconds."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._live = out.isatty()
        self._next_s = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to show something."""
        return time.monotonic() >= self._next_s

    def show(self, text: str) -> None:
        """Show the text now."""
        self._next_s = time.monotonic() + (_REDRAW_S if self._live else _PLAIN_LINE_S)
        self._out.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the line, so that what follows starts a new one."""
        if self._live and self._next_s:
            self._out.write("\n")


def progress(published: int, report: Report) -> str:
    """The state of a run in one line."""
    return (
        f"published {published:,}  assigned {report.assigned:,}  waiting {report.waiting:,}  "
        f"dead letters {report.dead_lettered:,}  {report.leads_per_s:,.0f}/s  "
        f"p50 {report.p50_ms:,} ms  p99 {report.p99_ms:,} ms"
    )


def summary(report: Report) -> str:
    """The report as a table, with the verdict in words."""
    inputs = f"{report.leads_in:,} leads, {report.reservations_in:,} reservations"
    rows = (
        ("in", report.leads_in + report.reservations_in, f"{inputs}; {report.duplicates_in:,} repeated"),
        ("assigned", report.assigned, "a guide holds them"),
        ("waiting", report.waiting, "in a named queue, nobody near has room or fits"),
        ("closed", report.closed, "won, lost, withdrawn or closed"),
        ("dead letters", report.dead_lettered, "broken ones, set aside with the reason"),
        ("accepted", report.accepted, f"offers; {report.reminded:,} guides were reminded first"),
        (
            "offered again",
            report.reoffered,
            f"declined or given back, or one of {report.expired:,} that ran out",
        ),
        (
            "no-shows",
            report.no_shows,
            f"of those who booked; {report.slots_oversold:,} slots were sold twice",
        ),
        ("waited s", report.waiting_max_age_s, "the longest in one queue, who waits still among them"),
        ("per second", round(report.leads_per_s), "answered, from the first input to the last answer"),
        ("p50 ms", report.p50_ms, "from the event to its published assignment"),
        ("p99 ms", report.p99_ms, ""),
    )
    table = [f"  {name:<14}{number:>10,}  {what}".rstrip() for name, number, what in rows]
    verdict = (
        [f"audit: ok, {_ALL_WELL}{_PAID_WELL if report.orders else ''}"]
        if report.ok
        else ["audit: FAILED", *(f"  {each}" for each in report.problems)]
    )
    return "\n".join([*table, *(money(report) if report.orders else ()), *verdict])


def money(report: Report) -> list[str]:
    """How orders and refunds became earnings, a line for each step."""
    rows = (
        ("commission", yuan(report.commission_fen), f"yuan, of {report.orders:,} orders"),
        ("refunded", yuan(report.refunded_fen), f"yuan of it, by {report.refunds:,} refunds"),
        ("base", f"{report.bases:,}", "postings, as the group settles today"),
        ("overlay", f"{report.overlays:,}", "postings on top, each sums to zero: who helped has a share"),
        ("parties", f"{report.parties:,}", "guides, stores, managers, partners and others in the book"),
        ("pending", yuan(report.pending_fen), "yuan, until the rights window is over"),
        ("earned", yuan(report.earned_fen), "yuan, the rights window is over"),
    )
    return [f"  {name:<14}{number:>10}  {what}" for name, number, what in rows]


def earnings(guide_id: str, held: Mapping[str, str]) -> str:
    """What a guide reads of their earnings, from their one hash (see ``router.state.keys.earnings``)."""
    accounts = {"pending": 0, "earned": 0}
    for name, fen in held.items():
        account = name.partition("|")[0]
        if account in accounts:
            accounts[account] += int(fen)
    _, _, today = held.get("day", "").partition(" ")
    period = max((name for name in held if name.startswith("p|")), default="")
    told = ", ".join(f"{name} {yuan(fen)}" for name, fen in accounts.items())
    return (
        f"{guide_id} today {yuan(int(today or 0))}, in {period[2:]} {yuan(int(held.get(period, 0)))}; {told}"
    )


def yuan(fen: int) -> str:
    """An amount as people read it: ``-1,234.05``."""
    whole, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{whole:,}.{rest:02}"
