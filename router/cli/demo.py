"""``lead-router demo`` and ``simulate``: a made-up country and its load."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from router.cli.group import clear_errors, kafka_url
from router.config import Settings


@click.command(
    epilog="\b\nExamples:\n  lead-router demo\n  "
    "lead-router demo --stores stores.csv --leads 50000 --rate 2000"
)
@click.option("--leads", default=10_000, show_default=True, type=click.IntRange(1), help="Good leads.")
@click.option("--rate", default=150.0, show_default=True, type=click.FloatRange(1), help="Inputs a second.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same world and load.")
@click.option(
    "--stores",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A store directory: CSV with store_id,name,city,lat,lon,opens,closes,services.",
)
@click.option("--orders/--no-orders", default=True, show_default=True, help="What is won is bought, too.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on a line of its own.")
@clear_errors
def demo(  # noqa: PLR0913 - every option of a demo
    *, leads: int, rate: float, seed: int, stores: Path | None, orders: bool, as_json: bool
) -> None:
    """Route a made-up day in a minute, then audit it.

    Starts the parts and one worker, publishes a roster and a steady stream of leads and reservations, some of
    them repeated or broken. Guides accept, decline, stay silent or go offline, visitors come or do not, who
    was won buys, and some give back a part or all. Checks from the raw topics that nothing was lost, nothing
    given twice, nobody given too much, no slot sold twice, and every fen of commission held by who is
    entitled to it. The exit status is 1 when the audit fails.
    """
    from router.demo.run import Options, demo  # noqa: PLC0415 - a help page needs no broker

    options = Options(leads=leads, rate_per_s=rate, seed=seed, stores=stores, orders=orders, as_json=as_json)
    sys.exit(demo(options, Settings.from_env()))


def share(default: float) -> dict[str, Any]:
    """The settings of an option that takes a share of all inputs."""
    return {"default": default, "show_default": True, "type": click.FloatRange(0, 1)}


@click.command(
    epilog="\b\nExample:\n  LEAD_ROUTER_KAFKA_URL=kafka://broker:9092 "
    "lead-router simulate --rate 2000 --leads 100000"
)
@click.option(
    "--leads", default=10_000, show_default=True, type=click.IntRange(1), help="Good leads to send."
)
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(1), help="Inputs per second.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same inputs.")
@click.option("--brand", default="demo", show_default=True)
@click.option("--stores", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As for demo.")
@click.option("--reservations", **share(0.1), help="Share of reservations.")
@click.option("--duplicates", **share(0.02), help="Share of inputs sent again.")
@click.option("--malformed", **share(0.01), help="Share of broken inputs.")
@click.option("--hot-city", **share(0.0), help="Share of leads from the city with the most stores.")
@click.option(
    "--roster/--no-roster", default=True, show_default=True, help="Publish stores and guides first."
)
@clear_errors
def simulate(  # noqa: PLR0913 - every option of the load
    *,
    leads: int,
    rate: float,
    seed: int,
    brand: str,
    stores: Path | None,
    reservations: float,
    duplicates: float,
    malformed: float,
    hot_city: float,
    roster: bool,
) -> None:
    """Send leads and reservations to any broker at a steady rate; needs LEAD_ROUTER_KAFKA_URL."""
    from router.demo.country import built_in_stores  # noqa: PLC0415 - a help page needs no broker
    from router.demo.directory import read_stores  # noqa: PLC0415 - same
    from router.demo.load import Load  # noqa: PLC0415 - same
    from router.demo.send import send  # noqa: PLC0415 - same

    settings = Settings.from_env()
    load = Load(
        seed=seed,
        leads=leads,
        stores=read_stores(stores) if stores else built_in_stores(seed),
        brand=brand,
        reservation_share=reservations,
        duplicate_share=duplicates,
        malformed_share=malformed,
        hot_city_share=hot_city,
    )
    counts = asyncio.run(send(kafka_url(settings), settings, load, rate, with_roster=roster))
    click.echo(
        f"sent {counts.total:,} records in {counts.elapsed_s:.1f} s: {counts.leads:,} leads, "
        f"{counts.reservations:,} reservations"
    )
