"""The curves of a run as one SVG picture: loss, accuracy, learning rate, speed, and what part of it waits for data."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST_POINTS = 2000  # of a curve: a page shows no more

Lines = Sequence[dict]  # of metrics.jsonl


def draw(train: Lines, val: Lines) -> str:
    """The SVG element. An axis without any number is left empty."""
    figure = Figure((11, 9), layout="constrained")
    loss, top1, rate, speed, data, norm = figure.subplots(3, 2).flat
    for axes, title in ((loss, "loss"), (top1, "top-1, %")):
        name, scale = title.split(",")[0].replace("-", ""), 100 if "%" in title else 1
        _curve(axes, train, name, title, scale, label="training")
        _curve(axes, val, name, title, scale, label="evaluation", marker="o", markersize=3)
        axes.legend()
    _curve(rate, train, "lr", "learning rate")
    _curve(speed, train, "clips_per_s", "clips/s")
    _curve(data, train, "data_fraction", "waiting for data, % of the time", 100)
    _curve(norm, train, "grad_norm", "norm of the gradient")
    for axes in (speed, data):
        axes.set_ylim(bottom=0)
    return _svg(figure)


def _curve(axes: Axes, lines: Lines, name: str, title: str, scale: float = 1, **style: object) -> None:
    """One number over epochs; where it is not known the curve has a gap."""
    step = -(-len(lines) // MOST_POINTS) or 1
    shown = np.array([(line["epoch"], line.get(name)) for line in lines[::step]], dtype=float).reshape(-1, 2)
    axes.plot(shown[:, 0], scale * shown[:, 1], linewidth=1.2, **style)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)


def _svg(figure: Figure) -> str:
    """The figure's element alone: no declarations and no metadata, which name addresses of others."""
    content = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return "<svg" + content.getvalue().partition("<svg")[2]
