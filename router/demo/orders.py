"""What won leads are worth: who helped with the member, the order, what is given back; seeded, by lead.

Some members have bought the day before as well, at a till that was offline: of these orders the rights window
ends while somebody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from router.demo.roster import GUIDES_PER_STORE
from topics.catalog import BINDINGS, ORDERS, TOUCHES, Topic

#: How a demo shares commission. The group settles with who is bound; special prices are shared by fixed
#: parts, the rest by what everybody did.
COMMISSION = """
[commission]
base_order = ["owner", "server", "store"]
rights_days = 1

[[commission.splits]]
name = "special"
kind = "fixed_by_role"
price_zones = ["special"]
shares = { server = 6000, owner = 1500, store = 1000, manager = 500, sharer = 1000 }
unclaimed = ["server", "store"]
"""
#: How many of a hundred won leads become an order, and with how many there is one of the day before.
_BUYS_OF_100, _BEFORE_OF_100 = 90, 35
#: How often of a hundred another guide of the store serves; and who is bound, if anybody.
_OTHER_SERVES_OF_100 = 15
_BOUND = {"guide": 40, "colleague": 30, "lent": 8, None: 22}
#: What else led to a sale, and how often of a hundred; an origin stands on the order.
_LED = {None: 40, "live": 20, "chat": 15, "share": 10, "partner": 8, "ecommerce": 7}
_PARTNERS = ("hotel-group", "apartments", "spectacle-club")
#: What is given back of an order, in parts of a hundred each, and how often of a hundred.
_GIVEN_BACK: dict[tuple[int, ...], int] = {(): 84, (30,): 6, (100,): 5, (25, 40): 2, (60, 40): 3}
#: How many of a hundred orders come after their first refund, and how many records come twice.
_LATE_OF_100, _TWICE_OF_100 = 10, 3
#: Basis points of commission, and the price where the lead has told no value.
_COMMISSION_BP = (200, 800)
_PRICE_FEN = (9_900, 299_900)
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
#: When the order of the day before vests, after the lead is won.
_VESTS_MS = (2_500, 5_000)
#: How long what led to a sale is there before the order comes.
_LEAD_MS = 1_200


class Planned(NamedTuple):
    """A record to publish: when (epoch ms), where and what."""

    at_ms: int
    topic: Topic
    event: dict[str, Any]


class Orders:
    """The same seed and lead give the same orders, whatever else happens."""

    def __init__(self, seed: int, brand: str) -> None:
        self._seed, self._brand = seed, brand

    def won(self, card: Mapping[str, Any], at_ms: int) -> Iterator[Planned]:
        """What comes of a lead (its offer) that is won at ``at_ms``."""
        name = f"{card['kind'][0]}.{card['lead_id']}"
        rng = Random(f"order/{self._seed}/{name}")  # noqa: S311 - a made-up world, not a secret
        if rng.randrange(100) >= _BUYS_OF_100:
            return
        asked = card.get("lead") or card.get("reservation") or {}
        serves = card["guide_id"]
        if rng.randrange(100) < _OTHER_SERVES_OF_100:
            serves = _colleague(rng, serves)
        about = {"member_id": card["member_id"], "store_id": card["store_id"], "served_by": serves}
        yield from self._owned(rng, name, about, card["guide_id"], at_ms)
        if rng.randrange(100) < _BEFORE_OF_100:
            then_ms = at_ms + rng.randint(*_VESTS_MS) - _DAY_MS
            yield from self._order(rng, f"y.{name}", about, at_ms, then_ms, rng.randint(*_PRICE_FEN))
        about |= {"lead_id": card["lead_id"]}
        about |= {key: asked[key] for key in ("price_zone",) if key in asked}
        price_fen = asked.get("value_fen") or rng.randint(*_PRICE_FEN)
        now_ms = at_ms + _LEAD_MS + rng.randint(200, 800)
        source = asked.get("source") or {}
        yield from self._order(rng, f"o.{name}", about, now_ms, now_ms, price_fen, source)

    def _owned(
        self, rng: Random, name: str, about: Mapping[str, Any], guide_id: str, at_ms: int
    ) -> Iterator[Planned]:
        """Who is bound to the member for a while, and to whom the member is lent."""
        (bound,) = rng.choices(list(_BOUND), list(_BOUND.values()))
        if bound is None:
            return
        owner = guide_id if bound == "guide" else _colleague(rng, guide_id)
        common = {"member_id": about["member_id"], "brand": self._brand}
        since_ms = at_ms - rng.randint(10, 300) * _DAY_MS
        binding = {"command_id": f"b.{name}", "kind": "bind", "guide_id": owner, "occurred_at_ms": since_ms}
        yield Planned(at_ms - _LEAD_MS, BINDINGS, common | binding)
        if bound == "lent" and owner != guide_id:
            loan: dict[str, Any] = {
                "command_id": f"l.{name}",
                "kind": "lend",
                "guide_id": owner,
                "to_guide_id": guide_id,
            }
            loan |= {"occurred_at_ms": at_ms - 3 * _DAY_MS, "until_ms": at_ms + 4 * _DAY_MS, "share_bp": 1000}
            yield Planned(at_ms - _LEAD_MS, BINDINGS, common | loan)

    def _order(  # noqa: PLR0913, PLR0917 - an order has so many sides
        self,
        rng: Random,
        order_id: str,
        about: Mapping[str, Any],
        at_ms: int,
        sold_ms: int,
        price_fen: int,
        source: Mapping[str, Any] | None = None,
    ) -> Iterator[Planned]:
        """An order that comes at ``at_ms`` of a sale at ``sold_ms``, what led to it, what is given back."""
        (led,) = rng.choices(list(_LED), list(_LED.values()))
        origin, touches = _led(rng, led, about, order_id)
        common = {"member_id": about["member_id"], "brand": self._brand}
        before_ms = sold_ms - rng.randint(1, 5) * _HOUR_MS
        for touch in touches:
            event = common | touch | {"touch_id": f"t.{order_id}", "occurred_at_ms": before_ms}
            yield Planned(at_ms - _LEAD_MS, TOUCHES, event)
        commission_fen = price_fen * rng.randint(*_COMMISSION_BP) // 10_000
        told: dict[str, Any] = {"channel": led if led in {"live", "ecommerce"} else "store", **about}
        if source := {**(source or {}), **origin}:
            told["source"] = source
        order = {"order_id": order_id, "occurred_at_ms": sold_ms, **common, **told}
        sale = order | {"status": "paid", "amount_fen": price_fen, "commission_fen": commission_fen}
        (parts,) = rng.choices(list(_GIVEN_BACK), list(_GIVEN_BACK.values()))
        late_ms = rng.randint(400, 1_500) if parts and rng.randrange(100) < _LATE_OF_100 else 0
        yield from _maybe_twice(rng, Planned(at_ms + late_ms, ORDERS, sale))
        left, back_ms = {"amount_fen": price_fen, "commission_fen": commission_fen}, at_ms
        for number, percent in enumerate(parts, 1):
            whole = sum(parts[:number]) == 100  # noqa: PLR2004 - per cent
            given = left if whole else {"amount_fen": price_fen * percent // 100,
                                        "commission_fen": commission_fen * percent // 100}  # fmt: skip
            left = {key: left[key] - given[key] for key in left}
            # the first refund of a late order comes before it
            back_ms += 100 if late_ms and number == 1 else rng.randint(2_000, 6_000)
            refund = order | {"status": "refunded", "refund_id": f"{order_id}.{number}", **given}
            refund["occurred_at_ms"] = back_ms
            yield from _maybe_twice(rng, Planned(back_ms, ORDERS, refund))


def _led(
    rng: Random, led: str | None, about: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The origin that stands on the order, and the touches before it."""
    other = _colleague(rng, about["served_by"])
    touch = {"store_id": about["store_id"]}
    if led in {"live", "chat"}:
        return {}, [touch | {"kind": led, "guide_id": other}]
    if led == "share":
        return {"sharer_id": other, "touch_id": f"t.{name}"}, [
            touch | {"kind": "view", "source": {"channel": "share", "sharer_id": other}}
        ]
    if led == "partner":
        return {"partner": rng.choice(_PARTNERS)}, []
    if led == "ecommerce":
        return {}, [touch | {"kind": "view", "source": {"channel": "tmall"}}]
    return {}, []


def _colleague(rng: Random, guide_id: str) -> str:
    """Somebody else of the same store."""
    store, _, number = guide_id.rpartition("-")
    others = [str(each) for each in range(1, GUIDES_PER_STORE + 1) if str(each) != number]
    return f"{store}-{rng.choice(others)}"


def _maybe_twice(rng: Random, planned: Planned) -> Iterator[Planned]:
    yield planned
    if rng.randrange(100) < _TWICE_OF_100:
        yield planned._replace(at_ms=planned.at_ms + rng.randint(100, 900))


Buying = Callable[[Mapping[str, Any], int], Iterator[Planned]]
"""From the offer of a lead that is won, and when it is, to what comes of it."""


def nobody_buys(_: Mapping[str, Any], __: int) -> Iterator[Planned]:
    """Leads are won, and that is all."""
    return iter(())
