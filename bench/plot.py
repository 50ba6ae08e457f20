"""The figures of a run as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing

from bench.figures import Figure

MANY = 500


def save(figures: Sequence[Figure], path: Path) -> None:
    """Draw speed by candidates, by batch and by roster, peers, the match and the regret."""
    drawing = Drawing(figsize=(15, 8))
    axes = drawing.subplots(2, 3)
    for axis, by, along in zip(
        axes[0], ("candidates", "batch", "roster"), ("candidates", "batch", "guides"), strict=True
    ):
        for metric, style in (("leads_per_s", "o-"), ("candidate_scores_per_s", "s--")):
            _line(axis, figures, metric, along, style, by=by)
        axis.set(xscale="log", yscale="log", xlabel=along, ylabel="1/s", title=f"ranking by {along}")
        axis.legend()
    bars = [
        figure
        for figure in figures
        if figure.metric == "peer_us_per_lead" and figure.params["candidates"] == MANY
    ]
    axes[1][0].barh([bar.params["peer"] for bar in bars], [bar.value for bar in bars])
    axes[1][0].set(xscale="log", xlabel="µs CPU per lead", title=f"{MANY} candidates")
    for way in ("auction", "greedy", "row by row"):
        _line(axes[1][1], figures, "match_quality", "slots_per_lead", "o-", way=way, leads=512)
    axes[1][1].set(
        xscale="log", xlabel="places per lead", ylabel="share of the optimum", title="match, 512 leads"
    )
    axes[1][1].legend()
    _line(axes[1][2], figures, "regret", "batch_wait_ms", "o-")
    axes[1][2].set(xscale="log", xlabel="batch_wait_ms", ylabel="share lost to hindsight", title="a day")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)


def _line(axis: Any, figures: Sequence[Figure], metric: str, along: str, style: str, **only: Any) -> None:  # noqa: ANN401 - matplotlib's
    chosen = [
        (figure.params[along], figure.value)
        for figure in figures
        if figure.metric == metric and all(figure.params.get(name) == value for name, value in only.items())
    ]
    axis.plot(*zip(*sorted(chosen), strict=True), style, label=only.get("way", metric))
