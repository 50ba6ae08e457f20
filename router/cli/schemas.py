"""``lead-router schemas``."""

from __future__ import annotations

from pathlib import Path

import click

from router.cli.group import Trouble


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; fail when a schema is not current.")
def schemas(folder: Path, *, check: bool) -> None:
    """Write the JSON Schema of every topic into FOLDER."""
    from topics.schemas import schemas as texts  # noqa: PLC0415 - a help page needs no schemas

    wanted = texts()
    if check:
        stale = [
            name
            for name, text in wanted.items()
            if not (folder / name).exists() or (folder / name).read_bytes() != text
        ]
        if stale:
            raise Trouble(f"not current: {', '.join(stale)}; run `make schemas`", 1)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_bytes(text)
    click.echo(f"{len(wanted)} schemas in {folder}")
