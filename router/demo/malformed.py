"""Ways in which a lead goes wrong on its way to the router; each must end as a dead letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

_TOO_LARGE_BYTES = 65 * 1024


class Malformed(NamedTuple):
    """A kind of trouble: its name, and how to turn a good lead into it."""

    name: str
    spoil: Callable[[dict[str, Any]], bytes | None]


def _with(lead: dict[str, Any], **fields: object) -> bytes:
    return orjson.dumps({**lead, **fields})


def _raw(lead: dict[str, Any], more: bytes) -> bytes:
    """The lead's object with more text inside it, which need not be JSON."""
    return orjson.dumps(lead)[:-1] + more + b"}"


MALFORMED = (
    Malformed("not_json", lambda lead: orjson.dumps(lead)[:-2]),
    Malformed("not_an_object", lambda lead: orjson.dumps([lead["lead_id"]])),
    Malformed("not_utf8", lambda lead: _raw(lead, b',"sku":"\xff\xfe"')),
    Malformed("too_deep", lambda _: b"[" * 10_000 + b"]" * 10_000),
    Malformed("too_large", lambda lead: _with(lead, sku="x" * _TOO_LARGE_BYTES)),
    Malformed("tombstone", lambda _: None),
    Malformed("missing_field", lambda lead: _with({k: v for k, v in lead.items() if k != "member_id"})),
    Malformed("duplicate_key", lambda lead: _raw(lead, b',"tier":"vip"')),
    Malformed("nan", lambda lead: _raw(lead, b',"quantity":NaN')),
    Malformed("wrong_type", lambda lead: _with(lead, occurred_at_ms="yesterday")),
    Malformed("bad_id", lambda lead: _with(lead, lead_id=f"{{{lead['lead_id']}}}: ")),
    Malformed("half_a_place", lambda lead: _with({k: v for k, v in lead.items() if k != "lon"}, lat=31.2)),
    Malformed("out_of_range", lambda lead: _with(lead, lat=91.0, lon=0.0)),
    Malformed("unknown_choice", lambda lead: _with(lead, price_zone="free")),
)
"""Every kind that the load contains."""
