"""A built-in country: cities where they really are, with stores scattered around their centres."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from router.demo.directory import StoreRow


class City(NamedTuple):
    """A city's centre in WGS-84 degrees, and its residents in ten thousands (census of 2020, rounded)."""

    name: str
    lat: float
    lon: float
    weight: int


CITIES = (
    City("上海市", 31.230, 121.474, 2487),
    City("北京市", 39.904, 116.407, 2189),
    City("深圳市", 22.543, 114.058, 1756),
    City("广州市", 23.129, 113.264, 1868),
    City("成都市", 30.573, 104.066, 2094),
    City("重庆市", 29.563, 106.551, 1634),
    City("天津市", 39.084, 117.201, 1387),
    City("武汉市", 30.593, 114.305, 1245),
    City("西安市", 34.342, 108.940, 1295),
    City("杭州市", 30.274, 120.155, 1194),
    City("苏州市", 31.299, 120.585, 1275),
    City("南京市", 32.060, 118.797, 931),
    City("郑州市", 34.747, 113.625, 1260),
    City("长沙市", 28.228, 112.939, 1005),
    City("青岛市", 36.067, 120.383, 1007),
    City("宁波市", 29.868, 121.544, 940),
    City("佛山市", 23.022, 113.121, 950),
    City("东莞市", 23.021, 113.752, 1047),
    City("无锡市", 31.491, 120.312, 746),
    City("合肥市", 31.821, 117.227, 937),
    City("济南市", 36.651, 117.120, 920),
    City("沈阳市", 41.806, 123.432, 907),
    City("大连市", 38.914, 121.615, 745),
    City("哈尔滨市", 45.803, 126.535, 1001),
    City("长春市", 43.817, 125.324, 907),
    City("福州市", 26.075, 119.297, 829),
    City("厦门市", 24.480, 118.089, 516),
    City("昆明市", 24.880, 102.833, 846),
    City("南宁市", 22.817, 108.366, 874),
    City("石家庄市", 38.042, 114.515, 1124),
    City("南昌市", 28.682, 115.858, 626),
    City("贵阳市", 26.647, 106.630, 599),
    City("太原市", 37.871, 112.549, 530),
    City("兰州市", 36.061, 103.834, 436),
    City("乌鲁木齐市", 43.826, 87.617, 405),
    City("海口市", 20.044, 110.199, 287),
)

#: One store for so many residents, in ten thousands.
_RESIDENTS_PER_STORE = 100
#: Standard deviation of a store's distance from the centre, in degrees (about 8 km).
_SCATTER_DEG = 0.07
_SERVICES = ("fitting", "repair", "styling", "gift", "pickup")


def built_in_stores(seed: int) -> list[StoreRow]:
    """About 370 stores, in each city as many as its population asks for; the same for the same seed."""
    rng = Random(f"country/{seed}")  # noqa: S311 - a made-up world, not a secret
    return [
        StoreRow(
            store_id=f"c{number:02}s{index:02}",
            name=f"{city.name}{index}号店",
            city=city.name,
            lat=round(rng.gauss(city.lat, _SCATTER_DEG), 6),
            lon=round(rng.gauss(city.lon, _SCATTER_DEG), 6),
            opens="10:00",
            closes="22:00",
            services=tuple(service for service in _SERVICES if rng.random() < 0.7) or _SERVICES[:1],  # noqa: PLR2004 - a share of this one list
        )
        for number, city in enumerate(CITIES, 1)
        for index in range(1, max(2, city.weight // _RESIDENTS_PER_STORE) + 1)
    ]
