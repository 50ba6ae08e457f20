"""``lead-router commission close``, ``pay``, ``dispute``, ``release`` and ``adjust``."""

from __future__ import annotations

import asyncio
import getpass
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from router.cli.book import brand_option, check_ids, check_period, extract, now_ms, period_option
from router.cli.group import Trouble, clear_errors, kafka_url
from router.config import Settings
from router.errors import ConfigError, OutageError

if TYPE_CHECKING:
    from router.rules.money.extract import Extract
    from topics.commissions import LedgerCommand

#: An extract of the seals alone.
_SEALS = ("close",)
actor_option = click.option("--actor", help="Who asks for it; the name you are logged in with by default.")


@click.command(epilog="\b\nExample:\n  lead-router commission close 2026-11")
@click.argument("period")
@brand_option
@actor_option
@click.option(
    "--wait", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds for the seal."
)
@clear_errors
def close(period: str, brand: str, actor: str | None, wait: float) -> None:
    """Close PERIOD for ever: settle what was earned in it, seal it, and those before it.

    A worker does it; this waits for the seal. What comes later goes to the next period.
    """
    from router.commission.asking import ask  # noqa: PLC0415 - a help page needs no broker

    check_ids(brand=brand)
    check_period(period)
    command = _command("close", brand, actor, period=period)
    book = extract(brand, _SEALS)
    settings = Settings.from_env()
    if (before := book.seals.get(period)) is not None:
        click.echo(f"{period} of brand {brand} was closed before: {_seal(before.inputs)}")
        return
    if period < book.since:
        raise Trouble(f"period: {period} is before {book.since}, the first open one of brand {brand}", 1)
    answer = asyncio.run(
        ask(
            kafka_url(settings),
            settings,
            command,
            wait,
            lambda posting: posting.kind == "close" and posting.inputs.get("period") == period,
        )
    )
    if answer.outcome == "refused":
        raise Trouble(f"{period} was not closed: {answer.reason}", 1)
    if answer.posting is None:
        raise OutageError(
            f"no seal of {period} within {wait:g} s: is a worker running? The command "
            f"{command.command_id} was sent and stands; ask again to see the seal"
        )
    click.echo(f"{period} of brand {brand} is closed: {_seal(answer.posting.inputs)}")


@click.command(epilog="\b\nExample:\n  lead-router commission pay --period 2026-11 --to server:g2")
@period_option
@click.option("--to", "whom", multiple=True, metavar="ROLE:PARTY", help="Only these; everybody by default.")
@brand_option
@actor_option
@clear_errors
def pay(period: str, whom: tuple[str, ...], brand: str, actor: str | None) -> None:
    """Note as paid what was settled until the end of a closed period."""
    check_period(period)
    lines = [_line(["settled", *_split("to", each, "ROLE:PARTY"), "0"]) for each in whom]
    command = _command("pay", brand, actor, period=period, lines=lines)
    since = extract(brand, _SEALS).since
    if period >= since:
        raise Trouble(f"period: {period} of brand {brand} is not closed, nothing of it can be paid", 1)
    _send(command)


@click.command()
@click.argument("order")
@click.option("--reason", required=True, help="Why, in words.")
@brand_option
@actor_option
@clear_errors
def dispute(order: str, reason: str, brand: str, actor: str | None) -> None:
    """Freeze ORDER: nothing of it is earned, settled or paid until it is released."""
    command = _command("dispute", brand, actor, order_id=order, reason=reason)
    if not _in_book(extract(brand, (order,)), order):
        click.echo(f"order {order} is not in the book of brand {brand}: frozen when it comes", err=True)
    _send(command)


@click.command()
@click.argument("order")
@click.option("--reason", help="Why, in words.")
@brand_option
@actor_option
@clear_errors
def release(order: str, reason: str | None, brand: str, actor: str | None) -> None:
    """Let ORDER go on after a dispute."""
    command = _command("release", brand, actor, order_id=order, reason=reason)
    if order not in extract(brand, (order,)).disputes:
        raise Trouble(f"order {order} of brand {brand} is not disputed", 1)
    _send(command)


@click.command(
    epilog="\b\nExample, amounts in fen, together nothing:\n  lead-router commission adjust "
    "--reason 'forgotten visit' --order o1 \\\n"
    "    --line earned:server:g2:500 --line commission:group:group:-500"
)
@click.option("--line", "lines", multiple=True, required=True, metavar="ACCOUNT:ROLE:PARTY:FEN")
@click.option("--reason", required=True, help="Why, in words.")
@click.option("--checker", help="A second person, needed above the policy's adjust_check_fen.")
@click.option("--order", help="The order that it is about.")
@click.option("--command-id", help="The same id again is the same adjustment; any by default.")
@click.option("--wait", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds for it.")
@brand_option
@actor_option
@clear_errors
def adjust(  # noqa: PLR0913, PLR0917 - every field of an adjustment
    lines: tuple[str, ...],
    reason: str,
    checker: str | None,
    order: str | None,
    command_id: str | None,
    wait: float,
    brand: str,
    actor: str | None,
) -> None:
    """Post a correction by hand, into the open period."""
    from router.commission.asking import ask  # noqa: PLC0415 - a help page needs no broker
    from router.rules.money.postings import identity  # noqa: PLC0415 - same

    rows = [_split("line", each, "ACCOUNT:ROLE:PARTY:FEN") for each in lines]
    if bad := next((each for each, row in zip(lines, rows, strict=True) if not _is_fen(row[3])), None):
        raise ConfigError(f"line {bad!r:.80}: fen is a whole number")
    more: dict[str, Any] = {"lines": [_line(row) for row in rows], "reason": reason}
    more |= {"checker": checker, "order_id": order}
    more |= {"command_id": command_id} if command_id is not None else {}
    command = _command("adjust", brand, actor, **more)
    settings, wanted = Settings.from_env(), identity("adjust", brand, command.command_id)
    answer = asyncio.run(
        ask(kafka_url(settings), settings, command, wait, lambda posting: posting.posting_id == wanted)
    )
    if answer.outcome == "refused":
        raise Trouble(f"not posted: {answer.reason}", 1)
    if answer.posting is None:
        raise OutageError(f"nothing became of {command.command_id} within {wait:g} s: is a worker running?")
    click.echo(f"posted to {answer.posting.period} as {wanted}")


def _split(option: str, text: str, wanted: str) -> list[str]:
    parts = text.split(":")
    if len(parts) != wanted.count(":") + 1 or not all(parts):
        raise ConfigError(f"{option} {text!r:.80}: is not {wanted}")
    return parts


def _line(parts: list[str]) -> dict[str, Any]:
    account, role, party, fen = parts
    return {"account": account, "role": role, "party": party, "fen": int(fen)}


def _is_fen(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,16}", text) is not None


def _command(kind: str, brand: str, actor: str | None, **more: Any) -> LedgerCommand:  # noqa: ANN401 - fields
    """A command that the contract takes; what is None is left out.

    Raises:
        ConfigError: naming the field that is wrong.

    """
    import orjson  # noqa: PLC0415 - a help page needs no JSON

    from topics.codec import BadEventError, decode  # noqa: PLC0415 - same
    from topics.commissions import LedgerCommand  # noqa: PLC0415 - same

    fields: dict[str, Any] = {"command_id": f"{kind}-{uuid4().hex[:16]}", "brand": brand, "kind": kind}
    fields |= {"actor": actor or getpass.getuser(), "occurred_at_ms": now_ms()} | more
    told = {name: value for name, value in fields.items() if value is not None}
    try:
        return decode(LedgerCommand, orjson.dumps(told))
    except BadEventError as error:
        what, _, place = error.detail.rstrip("`").partition(" - at `$.")
        raise ConfigError(f"{place}: {what}" if place else what) from None


def _in_book(book: Extract, order: str) -> bool:
    return any(posting.order_id == order for posting in book.postings)


def _send(command: LedgerCommand) -> None:
    from router.commission.asking import send  # noqa: PLC0415 - a help page needs no broker

    settings = Settings.from_env()
    asyncio.run(send(kafka_url(settings), settings, command))
    click.echo(
        f"{command.kind} was sent as {command.command_id}; "
        "what a worker refuses is in dead-letters, with the reason"
    )


def _seal(inputs: dict[str, Any]) -> str:
    from router.commission.words import yuan  # noqa: PLC0415 - a help page needs no words

    return f"{inputs['count']:,} postings, {yuan(inputs['sum_fen'])} yuan moved, chain {inputs['chain']}"
