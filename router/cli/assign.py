"""``lead-router assign``: a list of customers, given to guides."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.group import clear_errors, kafka_url
from router.config import Settings
from router.errors import ConfigError, OutageError

if TYPE_CHECKING:
    from router.lists.answers import Collected
    from router.lists.rows import CustomerList

_INTERRUPTED = 130
_SHOWN_MAX = 20


@click.command(
    epilog="\b\nColumns: member_id, and if wanted lead_id, store_id, lat and lon, needs (a;b), tier,\n"
    "value_fen, price_zone, sku. Others are not read.\n"
    "\b\nExamples:\n  lead-router assign autumn.csv --dry-run\n  "
    "LEAD_ROUTER_KAFKA_URL=kafka://broker:9092 lead-router assign autumn.csv --rate 200"
)
@click.argument("file", metavar="LIST.csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--brand", default="demo", show_default=True)
@click.option("--list-id", help="Of the file's name and content by default: the same file, the same list.")
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(1), help="Rows a second.")
@click.option(
    "--wait", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds for the last answers."
)
@click.option(
    "--result",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What became of each row; LIST.result.csv by default.",
)
@click.option("--skip-bad", is_flag=True, help="Send the good rows although others are bad.")
@click.option(
    "--dry-run", is_flag=True, help="Check every row, say what would be sent, send and write nothing."
)
@clear_errors
def assign(  # noqa: PLR0913 - every option of a list
    *,
    file: Path,
    brand: str,
    list_id: str | None,
    rate: float,
    wait: float,
    result: Path | None,
    skip_bad: bool,
    dry_run: bool,
) -> None:
    """Give each customer of a list to a guide, by the same rules as any lead.

    Sends the rows to LEAD_ROUTER_KAFKA_URL, waits for their answers and writes them to a file. The same list
    again gives nothing twice: rows that were sent get the answer they had. While a row is bad nothing is
    sent. The exit status is 0 when every row was assigned, waits or is closed, and 1 otherwise.
    """
    from router.lists.answers import Collected  # noqa: PLC0415 - a help page needs no broker
    from router.lists.results import ANSWERED, counts, results, write  # noqa: PLC0415 - same
    from router.lists.rows import read_list  # noqa: PLC0415 - same

    result = result or file.with_suffix(".result.csv")
    if result.resolve() == file.resolve():
        raise ConfigError(f"{result}: is the list itself; name another file with --result")
    settings = Settings.from_env()
    found = read_list(file, brand, list_id, time.time_ns() // 1_000_000)
    _tell(found)
    if dry_run:
        click.echo(_plan(found, brand))
        sys.exit(1 if found.bad else 0)
    collected = Collected(brand, found.list_id, [lead.lead_id for lead in found.good])
    trouble: BaseException | None = None
    unanswered = "not sent: other rows are bad"
    if not found.bad or skip_bad:
        unanswered = f"no answer within {wait:g} s"
        try:
            _run(kafka_url(settings), settings, found, rate, wait, collected)
        except (KeyboardInterrupt, OutageError) as error:
            trouble, unanswered = error, "cut short: run it again"
    rows = results(found.rows, collected.results, unanswered)
    write(result, rows)
    counted = counts(made for _, made in rows)
    told = "  ".join(f"{outcome} {count:,}" for outcome, count in counted.items())
    click.echo(f"list {found.list_id}: {told}\nresults in {result}")
    if isinstance(trouble, OutageError):
        raise trouble
    if trouble is not None:
        sys.exit(_INTERRUPTED)
    sys.exit(0 if sum(counted[each] for each in ANSWERED) == len(rows) else 1)


def _run(  # noqa: PLR0913, PLR0917 - see above
    url: str, settings: Settings, found: CustomerList, rate: float, wait: float, collected: Collected
) -> None:
    from router.demo.words import ProgressLine  # noqa: PLC0415 - a help page needs no broker
    from router.lists.assign import assign  # noqa: PLC0415 - same
    from router.lists.results import counts  # noqa: PLC0415 - same

    line, leads = ProgressLine(), found.good

    def show(sent: int) -> None:
        if line.due or sent == len(collected.results) == len(leads):
            told = counts(collected.results.values())
            del told["unanswered"]
            line.show(
                f"sent {sent:,} of {len(leads):,}  "
                + "  ".join(f"{outcome} {count:,}" for outcome, count in told.items())
            )

    try:
        asyncio.run(assign(url, settings, leads, rate, wait, collected, show))
    finally:
        line.end()


def _tell(found: CustomerList) -> None:
    """What is odd about a list, for whoever has written it."""
    if found.unused:
        click.echo(f"columns not used: {', '.join(found.unused)}", err=True)
    for row in found.bad[:_SHOWN_MAX]:
        click.echo(f"line {row.line}: {row.reason}", err=True)
    if len(found.bad) > _SHOWN_MAX:
        click.echo(f"and {len(found.bad) - _SHOWN_MAX:,} more", err=True)


def _plan(found: CustomerList, brand: str) -> str:
    """What would be sent, in a sentence."""
    tiers = Counter(lead.tier or "no tier" for lead in found.good)
    told = ", ".join(f"{count:,} {tier}" for tier, count in tiers.most_common()) or "none"
    rows = f"{len(found.good):,} of {len(found.rows):,} rows can be sent"
    return f"{rows} as list {found.list_id} of brand {brand}: {told}"
