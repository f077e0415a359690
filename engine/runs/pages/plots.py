"""Draw curves of a run as SVG: loss, accuracy, learning rate, gradient norm, speed, time spent waiting for data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import TABLEAU_COLORS
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MOST_POINTS = 300  # points per curve: longer ones show means of groups of lines, in a band from minimum to maximum
COLORS = tuple(TABLEAU_COLORS.values())  # colours of curves
FEW_POINTS = 30  # curves up to this many points get markers, so that a single point is visible

STYLE = {
    "grid.color": "black",
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",
}

Lines = Sequence[dict]  # of metrics.jsonl


def draw(train: Lines, val: Lines) -> Iterator[tuple[str, Markup]]:
    """Yield (caption, SVG element) for each number that was recorded, over epochs."""
    both = {"training": train, "evaluation": val}
    yield from _picture("loss", "loss", both)
    yield from _picture("top-1, %", "top1", both, scale=100)
    yield from _picture("learning rate", "lr", {"": train})
    yield from _picture("gradient norm", "grad_norm", {"": train})
    yield from _picture("clips/s", "clips_per_s", {"": train}, bottom=0)
    yield from _picture("waiting for data, % of time", "data_fraction", {"": train}, scale=100, bottom=0)


def draw_runs(runs: dict[str, tuple[Lines, Lines]]) -> Iterator[tuple[str, Markup]]:
    """Yield (caption, SVG element) for the numbers of several runs, given as (training, evaluation) lines by name.

    The plots have no legend, which would hide curves: `legend` returns one for all of them.
    """
    train, val = ({name: lines[place] for name, lines in runs.items()} for place in (0, 1))
    yield from _picture("training loss", "loss", train, legend=False)
    yield from _picture("top-1 in evaluation, %", "top1", val, scale=100, legend=False)
    yield from _picture("loss in evaluation", "loss", val, legend=False)
    yield from _picture("learning rate", "lr", train, legend=False)
    yield from _picture("clips/s", "clips_per_s", train, bottom=0, legend=False)


def legend(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (name, colour) of each run of `draw_runs`."""
    return list(zip(names, cycle(COLORS)))


def _picture(
    caption: str,
    name: str,
    curves: dict[str, Lines],
    scale: float = 1,
    bottom: float | None = None,
    legend: bool = True,
) -> Iterator[tuple[str, Markup]]:
    """Plot one number over epochs, one curve per label; yield nothing if it was never recorded."""
    known = {label: lines for label, lines in curves.items() if any(line.get(name) is not None for line in lines)}
    if not known:
        return
    with rc_context(STYLE):
        figure = Figure((4.4, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=[color for label, color in zip(curves, cycle(COLORS)) if label in known])
        for label, lines in known.items():
            _curve(axes, lines, name, scale, label)
        axes.set_ylim(bottom=bottom)
        whole = max(line["epoch"] for lines in known.values() for line in lines) >= 1
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.15)
        if legend and len(known) > 1:
            axes.legend()
        yield caption, _svg(figure)


def _curve(axes: Axes, lines: Lines, name: str, scale: float, label: str) -> None:
    """Plot one number over epochs, with gaps where it was not recorded."""
    each = np.ma.masked_invalid([(line["epoch"], scale * _known(line.get(name))) for line in lines])
    step = -(-len(each) // MOST_POINTS)
    groups = [each[at : at + step] for at in range(0, len(each), step)]
    epoch, mean = np.ma.stack([group.mean(axis=0) for group in groups]).T
    marks = {"marker": "o", "markersize": 3} if len(groups) <= FEW_POINTS else {}
    (curve,) = axes.plot(epoch, mean, linewidth=1.4, label=label, **marks)
    if step > 1:
        low, high = (np.ma.stack([limit(group[:, 1]) for group in groups]) for limit in (np.ma.min, np.ma.max))
        axes.fill_between(epoch, low, high, color=curve.get_color(), alpha=0.25, linewidth=0)


def _known(number: float | None) -> float:
    return np.nan if number is None else number


def _svg(figure: Figure) -> Markup:
    """Return the figure as one SVG element without declarations and metadata, which hold URLs.

    Ids (`xtick_1`, `patch_3`) are removed, since they would repeat on a page with several plots. Black elements get the
    page's text colour from its style sheet.
    """
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = "<svg" + content.getvalue().partition("<svg")[2]
    return Markup(re.sub(r' id="\w+_\d+"', "", element))
