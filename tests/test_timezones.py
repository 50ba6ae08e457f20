"""Clocks of time zones as the ranking core reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.timezones import zone


@pytest.mark.parametrize(
    "name", ["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
)
@given(at=st.datetimes(datetime(2020, 1, 1), datetime(2059, 12, 1)))  # noqa: DTZ001 - hypothesis wants them bare
def test_the_offset_is_what_the_data_base_says(name, at):
    clock = zone(name)
    moment = at.replace(tzinfo=UTC, second=0, microsecond=0)
    row = np.searchsorted(clock.since_ms, moment.timestamp() * 1000, side="right") - 1
    assert timedelta(minutes=int(clock.offset_min[row])) == moment.astimezone(ZoneInfo(name)).utcoffset()


@pytest.mark.parametrize("name", [None, "Nowhere/City", "", "..", "Asia", "x" * 64, "\0"])
def test_a_zone_that_nobody_knows_is_chinas(name):
    assert zone(name).offset_min.tolist() == [480]
