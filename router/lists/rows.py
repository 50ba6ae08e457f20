"""A list of customers as people keep it, one CSV row for each, and the leads that its rows are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from router.errors import ConfigError
from topics.codec import BadEventError, decode
from topics.fields import ID_PATTERN
from topics.leads import Lead

#: What is read: ids and words as they are, numbers, and needs with ``;`` between.
_TEXTS = ("member_id", "lead_id", "store_id", "tier", "price_zone", "sku")
_NUMBERS = ("lat", "lon", "value_fen")
COLUMNS = (*_TEXTS, *_NUMBERS, "needs")
_NAME_MAX = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One customer: the lead, or None and what is wrong with it. ``line`` is that of the file."""

    line: int
    member_id: str
    lead_id: str
    lead: Lead | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CustomerList:
    """A list as it was read; ``unused`` are the columns that say nothing to the router."""

    list_id: str
    rows: list[Row]
    unused: tuple[str, ...] = ()

    @property
    def good(self) -> list[Lead]:
        """The leads of the rows with nothing wrong."""
        return [row.lead for row in self.rows if row.lead is not None]

    @property
    def bad(self) -> list[Row]:
        """The rows that are no leads."""
        return [row for row in self.rows if row.lead is None]


def read_list(path: Path, brand: str, list_id: str | None, now_ms: int) -> CustomerList:
    """Read a CSV file in UTF-8 with the columns ``COLUMNS``, of which only ``member_id`` is needed.

    A row that is no lead is part of the list, with the column and what is wrong there. Without a ``list_id``
    it is made of the file's name and content: the same file is the same list.

    Raises:
        ConfigError: the file, the brand or the list's id cannot be used.

    """
    try:
        content = path.read_bytes()
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        _check_columns(path, names)
        list_id = list_id or list_id_of(path.name, content)
        for name, text in (("brand", brand), ("list id", list_id)):
            if not re.match(ID_PATTERN, text):
                raise ConfigError(f"{name} {text!r:.80} is no id: 1 to 64 of A-Z a-z 0-9 _ . @ -")
        common = {"brand": brand, "list_id": list_id, "occurred_at_ms": now_ms}
        rows = list(_rows(reader, common))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise ConfigError(f"{path}: names no customer")
    return CustomerList(list_id, rows, tuple(name for name in names if name and name not in COLUMNS))


def list_id_of(name: str, content: bytes) -> str:
    """The id of a list by its file: as much of the name as an id may hold, and a hash of what is in it."""
    stem = re.sub(r"[^A-Za-z0-9_.@-]+", "-", Path(name).stem).strip("-.")[:_NAME_MAX]
    return f"{stem or 'list'}-{_hash(content)}"


def lead_id_of(list_id: str, member_id: str) -> str:
    """The id of a row that has none of its own: the same member of the same list is the same lead."""
    return f"row-{_hash(f'{list_id}/{member_id}'.encode())}"


def _hash(content: bytes) -> str:
    return blake2b(content, digest_size=10).hexdigest()


def _check_columns(path: Path, names: list[str]) -> None:
    if "member_id" not in names:
        raise ConfigError(f"{path}, line 1: column member_id is missing (it may have: {', '.join(COLUMNS)})")
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise ConfigError(f"{path}, line 1: column {twice} stands there twice")


def _rows(reader: csv.DictReader[str], common: dict[str, Any]) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for record in reader:
        cells = {name: record[name].strip() for name in COLUMNS if record.get(name)}
        cells = {name: text for name, text in cells.items() if text}
        member_id, line = cells.get("member_id", ""), reader.line_num
        if not cells:
            continue
        if not member_id:
            yield Row(line, "", "", reason="column member_id: is empty")
            continue
        lead_id = cells.setdefault("lead_id", lead_id_of(common["list_id"], member_id))
        if record.get(None):  # where the module puts what is over
            yield Row(line, member_id, lead_id, reason="has more cells than the first line")
            continue
        row = _row(line, member_id, lead_id, {**common, **_fields(cells)}, cells)
        if row.lead is not None and (first := seen.setdefault(lead_id, line)) != line:
            twice = f"column lead_id: {lead_id} of {member_id} stands in line {first} already"
            row = Row(line, member_id, lead_id, reason=twice)
        yield row


def _row(line: int, member_id: str, lead_id: str, fields: dict[str, Any], cells: dict[str, str]) -> Row:
    try:
        lead = decode(Lead, orjson.dumps(fields))
    except BadEventError as error:
        what, _, column = error.detail.rstrip("`").partition(" - at `$.")
        column = column.partition("[")[0]
        where = f"column {column}: {cells.get(column, '')!r:.60}: " if column else ""
        return Row(line, member_id, lead_id, reason=f"{where}{what}")
    return Row(line, member_id, lead_id, lead)


def _fields(cells: dict[str, str]) -> dict[str, Any]:
    """The cells as the contract wants them."""
    out: dict[str, Any] = {name: _number(text) if name in _NUMBERS else text for name, text in cells.items()}
    if "needs" in cells:
        out["needs"] = [need for part in cells["needs"].split(";") if (need := part.strip())]
    return out


def _number(text: str) -> object:
    """A number as JSON has it; anything else stays the text that it is, which the contract refuses."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if type(found) in {int, float} else text
