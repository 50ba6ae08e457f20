"""Two runs of a bench figure by figure, the worst first: ``python -m bench.compare OLD NEW``.

Of a file that holds several runs the last one counts. Ends with 1 where a figure of NEW is off by more than a
third of OLD's, or only one of the two has it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

#: What tells the machine and the day, not the figure.
_WHERE = frozenset({"cpu", "cpus", "python", "commit"})
OFF_MAX = 1 / 3


def read(path: Path) -> dict[str, float]:
    """Each figure of a file of JSON lines, by its metric and parameters."""
    figures: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        figure = json.loads(line)
        told = [f"{name}={value}" for name, value in figure["params"].items() if name not in _WHERE]
        figures[" ".join([figure["metric"], *told])] = figure["value"]
    return figures


def ratio(old: float | None, new: float | None) -> float:
    """New to old; infinite where there is no telling."""
    if old is None or new is None:
        return math.inf
    if old == new:
        return 1.0
    return new / old if old else math.inf


def main() -> int:
    """Print every figure's ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    asked = parser.parse_args()
    old, new = read(asked.old), read(asked.new)
    off = {name: abs(ratio(old.get(name), new.get(name)) - 1) for name in {**old, **new}}
    for name in sorted(off, key=lambda name: (-off[name], name)):
        was, is_ = old.get(name), new.get(name)
        print(f"{ratio(was, is_):7.3f} {was or 0:16,.3f} {is_ or 0:16,.3f}  {name}")  # noqa: T201 - the table
    outside = sum(each > OFF_MAX for each in off.values())
    print(f"{outside} of {len(off)} figures are off by more than a third")  # noqa: T201 - the table
    return int(outside > 0)


if __name__ == "__main__":
    raise SystemExit(main())
