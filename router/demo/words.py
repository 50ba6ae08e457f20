"""What the demo and the audit say to people."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from router.audit import Report

_REDRAW_S = 0.2
_PLAIN_LINE_S = 3.0
_ALL_WELL = (
    "nothing lost, nobody assigned twice or over capacity, no slot sold twice, "
    "no price zone crossed, all in order"
)


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
        [f"audit: ok, {_ALL_WELL}"]
        if report.ok
        else ["audit: FAILED", *(f"  {each}" for each in report.problems)]
    )
    return "\n".join([*table, *verdict])
