"""Inputs that no router wrote: refused by the name of the field, and never by accident."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.rules.money.entitlement import Entitlement
from tests.commission_world import ago, base, proof, sale, sales, shared

WHOLE = sale(
    proof("binding", "g1", 60),
    proof("loan", "g2", 10, of="g1", share_bp=1500, until_ms=ago(-10)),
    proof("share", "m2", level=2, of="m3"),
    served_by="g2",
    store_id="s1",
    source={"partner": "flat", "channel": "qr"},
    rule={"shares": {"server": 1}, "efforts": {"chat": 2}, "caps": {"server": 3}, "unclaimed": ["store"]},
)
NUMBERS = [None, -1, 2**53 + 1, 2**200, 0.5, math.nan, math.inf, True]
WORDS = ["", "x" * 65, "a/b", "\x00", "é", b"x"]
WRONG = st.sampled_from([*NUMBERS, *WORDS, [], {}, [[]], {"": {}}])


def places(value, path=()):
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


PLACES = [*places(WHOLE)]


def put(inputs, path, value, *, gone=False):
    inputs = copy.deepcopy(inputs)
    inner = inputs
    for key in path[:-1]:
        inner = inner[key]
    if gone:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return inputs


def refusal(entitled, inputs):
    """What a rule says to them; anything but a ValueError fails the test."""
    try:
        entitled(inputs, 0)
    except ValueError as error:
        return str(error)
    return None


def names(path):
    """What a refusal may name: a key on the way, or the value where it is a key itself."""
    return [str(key) for key in path if isinstance(key, str)]


@given(path=st.sampled_from(PLACES), value=WRONG, gone=st.booleans())
def test_a_wrong_field_is_refused_by_its_name_or_means_something(path, value, gone):
    inputs = put(WHOLE, path, value, gone=gone)
    refused = refusal(base, inputs)
    assert (
        refused == refusal(shared, inputs) == refusal(lambda given, _: Entitlement.of(given) and None, inputs)
    )
    assert refused is None or any(name in refused for name in names(path)), refused


@given(inputs=st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["order", "terms", "evidence", "parties", "rule", "kind"]), inner),
    ),
    max_leaves=9,
))  # fmt: skip
def test_what_are_no_inputs_at_all_is_refused(inputs):
    for entitled in (base, shared):
        with pytest.raises(ValueError, match=r".+"):
            entitled(inputs, 0)


@given(inputs=sales(), path=st.data(), value=WRONG)
def test_any_sale_with_any_field_wrong_is_refused_or_divided(inputs, path, value):
    hostile = put(inputs, path.draw(st.sampled_from([*places(inputs)])), value)
    if refusal(shared, hostile) is None:
        fen = hostile["order"]["commission_fen"]
        assert sum(share.fen for share in shared(hostile, fen)) == fen
        Entitlement.of(hostile).idle_income(shared(hostile, fen))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("order", "commission_fen"), 1.0, "order.commission_fen"),
        (("order", "commission_fen"), True, "order.commission_fen"),
        (("order", "member_id"), "a/b", "order.member_id"),
        (("order", "occurred_at_ms"), -1, "order.occurred_at_ms"),
        (("evidence", 1, "kind"), "luck", "evidence[1].kind"),
        (("evidence", 1, "share_bp"), 10_001, "evidence[1].share_bp"),
        (("evidence", 2, "level"), 0, "evidence[2].level"),
        (("terms", "rule", "kind"), "luck", "terms.rule.kind"),
        (("terms", "rule", "luck"), 1, "`luck`"),
        (("terms", "base_order"), [], "terms.base_order"),
        (("terms", "levels_max"), 3, "terms.levels_max"),
        (("parties", "g1"), 3, "parties"),
        (("refunds",), [["r1", 10_001]], "refunds: 10001 fen of 10000"),
        (("refunds",), [["r1", -1]], "refunds[0][1]"),
        (("refunds",), [["r1", 1], ["r1", 1]], "refunds: r1 stands twice"),
    ],
)
def test_the_field_is_named(path, value, message):
    with pytest.raises(ValueError, match=r".+") as refused:
        Entitlement.of(put(WHOLE, path, value))
    assert message in str(refused.value)


@pytest.mark.parametrize("wrong", [None, [], "{}", 3])
def test_inputs_are_an_object(wrong):
    with pytest.raises(ValueError, match=r"^inputs: "):
        Entitlement.of(wrong)
