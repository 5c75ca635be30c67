"""The plots of docs/benchmarks.md: `python -m bench.plots docs/benchmarks` reads the results and draws beside them.

It runs in an environment that has matplotlib and nothing else of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SAMPLE_SECONDS = 0.25
OURS, RAW, OTHERS = "#0b6e4f", "#b0b0b0", "#5b7db1"
THOUSANDS, PLAIN = "{x:,.0f}", "{x:g}"
STYLE = {
    "svg.hashsalt": "staffa",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Row = dict[str, Any]


def draw(base: Path) -> None:
    """Draw each plot whose rows were measured."""
    rows = {row["key"]: row for row in json.loads(base.with_suffix(".json").read_text("utf-8"))["rows"]}
    mpl.rcParams.update(STYLE)
    for name, figure in (("peers", _peers(rows)), ("latency", _latency(rows)), ("pinned", _pinned(rows))):
        if figure is not None:
            figure.savefig(f"{base}-{name}.svg", metadata={"Date": None, "Creator": None})


def _peers(rows: dict[str, Row]) -> Figure | None:
    bars = [
        (f"{figure['name']} ({database})", median(figure["values"]))
        for key, database in (("drain", "PostgreSQL"), ("drain-sqlite", "SQLite"))
        if key in rows
        for figure in rows[key]["figures"]
    ]
    if not bars:
        return None
    bars.sort(key=lambda bar: bar[1])
    figure = Figure(figsize=(7.5, 0.6 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(
        [name for name, _ in bars], [value for _, value in bars], color=[_color(n) for n, _ in bars]
    )
    axes.bar_label(drawn, labels=[f"{value:,.0f}" for _, value in bars], padding=3)
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.set_xlabel("no-op jobs per second, one process, best setting of each")
    axes.margins(x=0.12)
    return figure


def _latency(rows: dict[str, Row]) -> Figure | None:
    series = _series(rows, "latency") | _series(rows, "latency-sqlite")
    if not series:
        return None
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, milliseconds in series.items():
        percent = [100 * place / (len(milliseconds) - 1) for place in range(len(milliseconds))]
        axes.plot(milliseconds, percent, label=name, color=RAW if name.startswith("raw") else None)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.xaxis.set_minor_formatter(PLAIN)
    axes.set_xlabel("milliseconds from enqueueing to start")
    axes.set_ylabel("% of jobs")
    axes.legend(frameon=False)
    return figure


def _pinned(rows: dict[str, Row]) -> Figure | None:
    series = _series(rows, "pinned")
    if not series:
        return None
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, rates in series.items():
        seconds = [SAMPLE_SECONDS * (place + 1) for place in range(len(rates))]
        axes.plot(seconds, rates, label=f"{name} a transaction held open".replace("it a", "a"))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_xlabel("seconds")
    axes.set_ylabel("jobs per second")
    axes.legend(frameon=False)
    return figure


def _series(rows: dict[str, Row], key: str) -> dict[str, list[float]]:
    series: dict[str, list[float]] = rows.get(key, {}).get("series", {})
    return series


def _color(name: str) -> str:
    return OURS if name.startswith("Staffa") else RAW if name.startswith("raw") else OTHERS


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
