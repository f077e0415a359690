"""Results per class and confused pairs of classes, as text, tables and pictures.

Class names may hold anything and are made printable here.

Shapes: K classes.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from configs.cli import STDOUT, descriptor
from dali_pipes import DataError
from engine.console import cell, printable
from engine.evaluation.accuracy import Result
from engine.outputs import Outputs

MOST_PAIRS = 30
MOST_NAMED = 50  # classes whose names fit on a picture


@dataclass(frozen=True)
class ClassResult:
    """The result of one class."""

    name: str
    videos: int  # that were evaluated
    top1: int  # of them, those whose best class is this one
    top5: int | None  # those with this class among their five best; None with up to five classes

    @property
    def shares(self) -> list[float]:
        """Return top-1 and, if it is known, top-5 as fractions of the videos."""
        return [right / self.videos for right in (self.top1, self.top5) if right is not None]


@dataclass(frozen=True)
class Confusion:
    """A pair of classes: `times` of the `videos` of one were predicted as the other."""

    name: str
    predicted: str
    times: int
    videos: int


def names(result: Result, class_names: Sequence[str]) -> list[str]:
    """Return [K] class names, or numbers if there are no names; unprintable characters are replaced."""
    known = class_names if len(class_names) else range(len(result.confusion_KK))
    return [printable(str(name)) for name in known]


def measures(result: Result) -> list[str]:
    """Return the names of a class's shares: with up to five classes each video would be among the five best."""
    return ["top1"] if result.top5_K is None else ["top1", "top5"]


def worst_first(result: Result, class_names: Sequence[str]) -> list[ClassResult]:
    """Return the classes that have videos, by rising accuracy; of equal ones, those with more videos first."""
    videos_K, top1_K = result.confusion_KK.sum(1).tolist(), result.confusion_KK.diagonal().tolist()
    top5_K = [None] * len(videos_K) if result.top5_K is None else result.top5_K.tolist()
    every = map(ClassResult, names(result, class_names), videos_K, top1_K, top5_K)
    return sorted((one for one in every if one.videos), key=lambda one: (one.top1 / one.videos, -one.videos))


def most_confused(result: Result, class_names: Sequence[str]) -> list[Confusion]:
    """Return the pairs of classes that were confused most often; each direction is a pair."""
    off_diagonal_KK = result.confusion_KK - torch.diag(result.confusion_KK.diagonal())
    order = off_diagonal_KK.flatten().argsort(descending=True, stable=True)[:MOST_PAIRS]
    name, videos_K, classes = names(result, class_names), result.confusion_KK.sum(1).tolist(), len(off_diagonal_KK)
    pairs = [(*divmod(place, classes), int(off_diagonal_KK.flatten()[place])) for place in order.tolist()]
    return [Confusion(name[true], name[other], times, videos_K[true]) for true, other, times in pairs if times]


def lines(result: Result, class_names: Sequence[str]) -> Iterator[str]:
    """Yield lines of text: the classes, worst first, then the confused pairs."""
    yield " ".join(f"{title:>7}" for title in (*measures(result), "videos")) + "  class"
    for one in worst_first(result, class_names):
        yield " ".join(f"{100 * share:7.2f}" for share in one.shares) + f" {one.videos:7}  {one.name}"
    pairs = most_confused(result, class_names)
    if pairs:
        yield f"{'times':>7} {'videos':>7}  class → predicted class"
    for pair in pairs:
        yield f"{pair.times:7} {pair.videos:7}  {pair.name} → {pair.predicted}"


def save_confusion(path: Path, result: Result, class_names: Sequence[str], outputs: Outputs | None = None) -> None:
    """Save the confusion matrix as .csv or .png. A row is a class, a column the predicted class."""
    save = {".csv": _save_table, ".png": _save_picture}[path.suffix]
    save(path, result.confusion_KK.numpy(), names(result, class_names), outputs or Outputs())


def _save_table(path: Path, confusion_KK: np.ndarray, names: list[str], outputs: Outputs) -> None:
    with outputs.replacing(path, newline="", encoding="utf-8") as file:
        writer, names = csv.writer(file), list(map(cell, names))
        writer.writerow(["class", *names])
        writer.writerows([name, *counts] for name, counts in zip(names, confusion_KK.tolist(), strict=True))


def _save_picture(path: Path, confusion_KK: np.ndarray, names: list[str], outputs: Outputs) -> None:
    with outputs.replacing(path, "wb") as file:
        file.write(confusion_picture(confusion_KK, names))


def confusion_picture(confusion_KK: np.ndarray, names: list[str]) -> bytes:
    """Draw the fractions of each class's videos as a PNG; a class gets at least a few pixels."""
    from matplotlib.figure import Figure  # takes a second to import

    side = 3 + 0.2 * min(len(names), MOST_NAMED) + 0.02 * max(0, len(names) - MOST_NAMED)  # inches
    figure = Figure((side + 1, side), layout="constrained", dpi=150)
    axes = figure.add_subplot(xlabel="predicted class", ylabel="class")
    shown_KK = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shown_KK, vmin=0, vmax=1, cmap="Blues"), shrink=0.6)
    if len(names) <= MOST_NAMED:
        for axis, rotation in ((axes.xaxis, 90), (axes.yaxis, 0)):
            axis.set_ticks(range(len(names)), names, rotation=rotation, fontsize=8, parse_math=False)
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters missing from the font
        figure.savefig(content, format="png")
    return content.getvalue()


def publish(
    result: Result, class_names: Sequence[str], args: Namespace, about: dict, outputs: Outputs | None = None
) -> None:
    """Print and write a result as the arguments ask. `about` goes into the JSON file. Raises DataError."""
    outputs = outputs or Outputs()
    out = sys.stderr if args.json and descriptor(args.json) == STDOUT else sys.stdout
    print(result.summary(), file=out)
    if args.per_class:
        print("\n".join(lines(result, class_names)), file=out)
    if args.confusion:
        with writing(args.confusion):
            save_confusion(args.confusion, result, class_names, outputs)
    if args.json:
        content = {**result.to_json(), "class_names": list(class_names), **about}
        with writing(args.json):
            outputs.write({args.json: json.dumps(content) + "\n"})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(path, f"cannot be written: {error.strerror or error}") from error
