"""Figures for reports: facts' curves and plots as SVG that a page can hold."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

mpl.use("svg")

# Okabe and Ito's colours: told apart by colour-blind readers, and in grey
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
WRITTEN = 20  # a matrix of more rows or columns than this has no numbers in its cells
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "persona",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
}
Plot = dict[str, Any]


def svg(plot: Plot) -> str:
    """One plot ({title, kind: lines | bars | matrix, …}) as an <svg> element that scales with its place."""
    with mpl.rc_context(_STYLE):
        figure = _KINDS[plot["kind"]](plot)
        held = io.StringIO()
        figure.savefig(held, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    width = re.search(r'width="([\d.]+)pt"', text)
    view = re.search(r'viewBox="[^"]*"', text)
    assert width and view, "matplotlib writes both"
    inner = text[text.index(">", text.index("<svg")) + 1 :]
    return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]} style="max-width:{width[1]}pt" role="img">{inner}'


def _lines(plot: Plot) -> Figure:
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.subplots()
    for at, (name, points) in enumerate(plot["series"].items()):
        marker = "o" if len(points) <= WRITTEN else None
        style = ["-", "--", ":", "-."][at // len(COLOURS) % 4]
        axes.plot([x for x, _ in points], [y for _, y in points], style, marker=marker, markersize=3.5, label=name)
    axes.set_xlabel(plot.get("x", ""))
    axes.set_ylabel(plot.get("y", ""))
    axes.grid(alpha=0.25)
    _legend(figure, axes, len(plot["series"]))
    return figure


def _bars(plot: Plot) -> Figure:
    names = list(plot["series"])
    places = list(dict.fromkeys(place for held in plot["series"].values() for place in held))
    across = len(places) * (len(names) + 0.6)
    figure = Figure(figsize=(6.4, max(1.6, 0.5 + 0.2 * across)))
    axes = figure.subplots()
    thick = 0.85 / len(names)
    for at, name in enumerate(names):
        values = [plot["series"][name].get(place, math.nan) for place in places]
        around = plot.get("errors", {}).get(name)
        errors = [around.get(place, 0.0) for place in places] if around else None
        heights = [row + at * thick for row in range(len(places))]
        axes.barh(
            heights,
            values,
            thick * 0.92,
            xerr=errors,
            label=name,
            color=COLOURS[at % len(COLOURS)],
            error_kw={"lw": 0.8},
        )
    axes.set_yticks([row + 0.425 - thick / 2 for row in range(len(places))], places)
    axes.invert_yaxis()
    axes.set_xlabel(plot.get("y", ""))
    axes.grid(alpha=0.25, axis="x")
    _legend(figure, axes, len(names))
    return figure


def _matrix(plot: Plot) -> Figure:
    rows, columns = plot["rows"], plot["columns"]
    values = [[math.nan if value is None else float(value) for value in row] for row in plot["values"]]
    figure = Figure(figsize=(max(2.5, min(6.4, 1.2 + 0.55 * len(columns))), max(2.0, min(6.4, 1.0 + 0.42 * len(rows)))))
    axes = figure.subplots()
    shown = axes.imshow(values, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    if max(len(rows), len(columns)) <= WRITTEN:
        low, high = shown.get_clim()
        middle = ((low or 0.0) + (high or 0.0)) / 2
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                text = "" if math.isnan(value) else f"{value:.3g}" if value != int(value) else str(int(value))
                axes.text(
                    x, y, text, ha="center", va="center", fontsize=8, color="white" if value > middle else "black"
                )
    axes.set_xlabel(plot.get("x", ""))
    axes.set_ylabel(plot.get("y", ""))
    return figure


def _legend(figure: Figure, axes: Any, count: int) -> None:
    if count > 1:
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


_KINDS = {"lines": _lines, "bars": _bars, "matrix": _matrix}
