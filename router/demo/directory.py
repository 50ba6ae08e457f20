"""A store directory as people keep it: one CSV row for each store."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
from msgspec import Meta

from router.errors import ConfigError
from topics.fields import Event, Id, Latitude, Longitude, Tag, Text

ClockTime = Annotated[str, Meta(pattern=r"^[0-4][0-9]:[0-5][0-9](?!\n)$")]


class StoreRow(Event, frozen=True):
    """One row; the fields are the columns. The city is the store's market, the hours hold on every day."""

    store_id: Id
    name: Text
    city: Annotated[str, Meta(min_length=1, max_length=64)]
    lat: Latitude
    lon: Longitude
    opens: ClockTime
    closes: ClockTime
    services: Annotated[tuple[Tag, ...], Meta(max_length=64)]


COLUMNS = StoreRow.__struct_fields__


def read_stores(path: Path) -> list[StoreRow]:
    """Read a CSV file with the columns ``COLUMNS``: services separated by ``|``, times as ``HH:MM``.

    Raises:
        ConfigError: the file cannot be used; says in which line and column, and what is wrong there.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_rows(path, file))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise ConfigError(f"{path}: names no store")
    return rows


def _rows(path: Path, file: TextIO) -> Iterator[StoreRow]:
    reader = csv.DictReader(file, restval="")
    if absent := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        raise ConfigError(f"{path}, line 1: column {absent[0]} is missing ({','.join(COLUMNS)} are needed)")
    seen: dict[str, int] = {}
    for record in reader:
        where = f"{path}, line {reader.line_num}"
        cells = {column: record[column].strip() for column in COLUMNS}
        services = [service for service in cells["services"].split("|") if service]
        try:
            row = msgspec.convert({**cells, "services": services}, StoreRow, strict=False)
        except msgspec.ValidationError as error:
            what, _, column = str(error).rstrip("`").partition(" - at `$.")
            column = column.partition("[")[0]
            raise ConfigError(f"{where}, column {column}: {cells[column]!r:.60}: {what}") from None
        if (first := seen.setdefault(row.store_id, reader.line_num)) != reader.line_num:
            raise ConfigError(f"{where}, column store_id: {row.store_id} stands in line {first} already")
        yield row
