"""Figures: one JSON line each, with all it takes to compare them with those of another day."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One measured value."""

    metric: str
    value: float
    unit: str
    params: dict[str, Any]


def append(path: Path, bench: str, figures: Iterable[Figure]) -> None:
    """Append the figures to a file of JSON lines, each with the machine and the commit."""
    where = machine()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for metric, value, unit, params in figures:
            line = {
                "bench": bench,
                "metric": metric,
                # digits that count: a ratio of 0.0016 is not 0.002
                "value": float(f"{value:.5g}"),
                "unit": unit,
                "params": params | where,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def machine() -> dict[str, Any]:
    """CPU model and count, Python, and the commit (``-dirty`` with changes that are not committed)."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],  # noqa: S607 - found on PATH on purpose
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
