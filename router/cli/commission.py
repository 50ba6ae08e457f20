"""``lead-router commission``: what the book of shared commission says."""

from __future__ import annotations

import asyncio
import sys

import click

from router.cli import settling
from router.cli.book import (
    brand_option,
    check_ids,
    check_period,
    extract,
    json_option,
    nothing,
    now_ms,
    period_option,
    tell,
    with_progress,
    worked_out,
)
from router.cli.group import clear_errors, kafka_url
from router.config import Settings
from router.errors import ConfigError


@click.group()
def commission() -> None:
    """Show, settle and check who earned what.

    Reads the topic ``commissions`` of LEAD_ROUTER_KAFKA_URL, the book of record. Amounts are yuan, times UTC.
    """


@commission.command(epilog="\b\nExample:\n  lead-router commission show o0000012 --brand demo")
@click.argument("order")
@brand_option
@json_option
@clear_errors
def show(order: str, brand: str, *, as_json: bool) -> None:
    """Show who gets what of ORDER, why, and where it lies now."""
    from router.commission.reading import parked  # noqa: PLC0415 - a help page needs no broker
    from router.commission.words import story as words  # noqa: PLC0415 - same
    from router.rules.money.story import story  # noqa: PLC0415 - same

    check_ids(order=order, brand=brand)
    book = extract(brand, (order,))
    told = worked_out(lambda: story(book, order, now_ms()))
    if told is None:
        settings = Settings.from_env()
        waits = asyncio.run(parked(settings.redis_url, brand, order)) if settings.redis_url else ()
        early = "".join(f"; its refund {each.refund.refund_id} came before it and waits" for each in waits)
        early += "; it is disputed already" if order in book.disputes else ""
        nothing(book, f"order {order} is not in the book of brand {brand}{early}", as_json=as_json)
        return
    tell(told, lambda: words(told), as_json=as_json)
    sys.exit(1 if told.faults else 0)


@commission.command(
    epilog="\b\nExamples:\n  lead-router commission statement g2 --period 2026-11\n  "
    "lead-router commission statement east --json"
)
@click.argument("party")
@brand_option
@click.option("--period", metavar="YYYY-MM", help="As it was at the end of this period.")
@click.option("--csv", "as_csv", is_flag=True, help="The lines as CSV, amounts in fen.")
@json_option
@clear_errors
def statement(party: str, brand: str, period: str | None, *, as_csv: bool, as_json: bool) -> None:
    """Show what PARTY has of every sale, where it lies, and why it is not paid yet.

    PARTY is a guide, a team, a partner, a store or a region; of a store or region the totals of all who
    belong to it are shown as well. Where an id is of several, write guide:1001, store:1001, partner:1001 or
    region:1001.
    """
    from router.commission import words  # noqa: PLC0415 - a help page needs no broker
    from router.rules.money.bearers import AmbiguousError, id_of  # noqa: PLC0415 - same
    from router.rules.money.statement import statement as made  # noqa: PLC0415 - same

    if as_csv and as_json:
        raise ConfigError("--csv and --json: name one of them")
    check_ids(brand=brand)
    check_period(period)
    book = extract(brand, (id_of(party),))
    try:
        told = worked_out(lambda: made(book, party, period, now_ms()))
    except AmbiguousError as error:
        raise ConfigError(str(error)) from None
    if not told.of and not as_json and not as_csv:
        until = f" until the end of {period}" if period else ""
        nothing(book, f"nothing is posted for {party} in brand {brand}{until}", as_json=False)
    elif as_csv:
        click.echo(words.statement_csv(told), nl=False)
    else:
        tell(told, lambda: words.statement(told), as_json=as_json)


@commission.command(epilog="\b\nExample:\n  lead-router commission prove --period 2026-11")
@period_option
@brand_option
@json_option
@clear_errors
def prove(period: str, brand: str, *, as_json: bool) -> None:
    """Prove that the group's own settlement is the same with and without the split.

    What each party would get without any split is worked out from the sales and refunds of the period alone,
    and compared with the base postings; the split postings have to come to nothing. The exit status is 1 when
    a fen differs.
    """
    from router.commission.words import proof as words  # noqa: PLC0415 - a help page needs no broker
    from router.rules.money.proof import prove  # noqa: PLC0415 - same

    check_ids(brand=brand)
    check_period(period)
    book = extract(brand)
    told = prove(brand, period, book.postings)
    if not (told.sales or told.refunds or told.rows) and not as_json:
        nothing(book, f"no sale and no refund is posted to {period} in brand {brand}", as_json=False)
    else:
        tell(told, lambda: words(told), as_json=as_json, ok=told.ok)
    sys.exit(0 if told.ok else 1)


@commission.command()
@period_option
@brand_option
@json_option
@clear_errors
def idle(period: str, brand: str, *, as_json: bool) -> None:
    """Show income without action: what owners earn in a period who did nothing for the member.

    Per guide and region, as the group settles today and after the split.
    """
    from router.commission.words import idle as words  # noqa: PLC0415 - a help page needs no broker
    from router.rules.money.proof import idle  # noqa: PLC0415 - same

    check_ids(brand=brand)
    check_period(period)
    book = extract(brand)
    rows = worked_out(lambda: idle(period, book.postings))
    if rows or as_json:
        tell(rows, lambda: words(rows), as_json=as_json)
    else:
        nothing(book, f"nobody in brand {brand} earned without action in {period}", as_json=False)


@commission.command()
@json_option
@clear_errors
def verify(*, as_json: bool) -> None:
    """Work out every posting again from its own inputs, and compare balances, seals and Redis.

    Reads the whole book of all brands. Every difference is named by its posting; where LEAD_ROUTER_REDIS_URL
    is set, every key of the books there is compared. The exit status is 1 when anything differs.
    """
    from router.commission.reading import verify  # noqa: PLC0415 - a help page needs no broker
    from router.commission.words import verified  # noqa: PLC0415 - same

    settings = Settings.from_env()
    url = kafka_url(settings)
    told = with_progress(lambda show: verify(url, settings.redis_url, settings, show))
    if not told.brands and told.ok and not as_json:
        click.echo("the book is empty: nothing was posted yet")
    else:
        tell(told, lambda: verified(told), as_json=as_json, ok=told.ok)
    sys.exit(0 if told.ok else 1)


for command in (settling.close, settling.pay, settling.dispute, settling.release, settling.adjust):
    commission.add_command(command)
