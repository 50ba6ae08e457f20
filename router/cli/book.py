"""What the commands about the book have in common: reading it, telling what was found, checking names."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from router.cli.group import Trouble, kafka_url
from router.config import Settings
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.rebuild import Progress
    from router.rules.money.extract import Extract

T = TypeVar("T")

brand_option = click.option("--brand", default="demo", show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, amounts in fen.")
period_option = click.option("--period", required=True, metavar="YYYY-MM")


def extract(brand: str, names: tuple[str, ...] = ()) -> Extract:
    """The postings of a brand that say one of the names, or all; a line on stderr tells how far it is."""
    from router.commission.reading import extract  # noqa: PLC0415 - a help page needs no broker

    settings = Settings.from_env()
    url = kafka_url(settings)
    book = with_progress(lambda show: extract(url, settings, brand, names, show))
    if book.unreadable:
        click.echo(
            f"{book.unreadable} records are no postings: lead-router commission verify names them", err=True
        )
    return book


def with_progress(work: Callable[[Progress], Coroutine[Any, Any, T]]) -> T:
    """Do what takes a while, with a line on stderr that tells how far it is."""
    from router.demo.words import ProgressLine  # noqa: PLC0415 - a help page needs no progress

    line = ProgressLine()

    def show(what: str, done: int, total: int) -> None:
        if line.due or done == total:
            line.show(f"{what}: {done:,} of {total:,}")

    try:
        return asyncio.run(work(show))
    finally:
        line.end()


def tell(told: object, words: Callable[[], list[str]], *, as_json: bool, ok: bool | None = None) -> None:
    """Show what was found, in words or as one JSON object."""
    import msgspec  # noqa: PLC0415 - a help page needs no JSON

    if as_json:
        made = msgspec.to_builtins(told)
        made = made | {"ok": ok} if isinstance(made, dict) and ok is not None else made
        click.echo(msgspec.json.encode(made))
    else:
        click.echo("\n".join(words()))


def nothing(book: Extract, what: str, *, as_json: bool) -> None:
    """An empty state, and what may be the cause of it."""
    if as_json:
        click.echo("null")
        return
    empty = "; no posting at all is there yet" if not book.records else ""
    click.echo(what + empty)


def worked_out(work: Callable[[], T]) -> T:
    """Do what a posting may make impossible; it is named then."""
    try:
        return work()
    except ValueError as error:
        raise Trouble(f"{error}; lead-router commission verify names all that is wrong", 1) from None


def check_ids(**named: str | None) -> None:
    """Refuse what is no id, naming it."""
    from topics.fields import ID_PATTERN  # noqa: PLC0415 - a help page needs no pattern

    for name, text in named.items():
        if text is not None and not re.match(ID_PATTERN, text):
            raise ConfigError(f"{name} {text!r:.80} is no id: 1 to 64 of A-Z a-z 0-9 _ . @ -")


def check_period(text: str | None) -> None:
    """Refuse what is no period."""
    if text is not None and not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text):
        raise ConfigError(f"period {text!r:.80} is no month: write it as 2026-11")


def now_ms() -> int:
    """Epoch ms by the clock of this machine."""
    return time.time_ns() // 1_000_000
