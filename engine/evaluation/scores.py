"""Score files: what each video was judged by, to be counted again later, alone or together with other networks' scores.

A .npz of plain arrays, one row a readable video, in the order of the list:

    row, label          int64 [N]
    path                text [N]
    logits              float32 [N, K], the mean over a video's views
    log_probs           float32 [N, K], the logarithm of the mean of its views' probabilities
    logits_of_views     float32 [N, V, K], or [N, 0, K] where they were not asked for
    class_names         text [K], or [0] where they are not known
    about               a JSON object: rows of the list, unreadable videos, settings, weights, environment

Shapes: B videos of a batch, F score files, K classes, N readable videos, V views.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dali_pipes import Batch, DataError, Loader
from engine import distributed
from engine.evaluation.accuracy import Counts, Result
from engine.evaluation.evaluate import average
from engine.files import replacing

MOST_ON_DEVICE = 2**28  # bytes of scores that a device keeps, less than a batch more


@dataclass(frozen=True)
class Scores:
    """The content of a score file, under the file's names."""

    row: np.ndarray
    label: np.ndarray
    path: np.ndarray
    logits: np.ndarray
    log_probs: np.ndarray
    logits_of_views: np.ndarray
    class_names: np.ndarray
    about: dict

    def save(self, path: Path) -> None:
        """Write the file, all of it or none."""
        with replacing(path, "wb") as file:
            np.savez(file, **{**vars(self), "about": json.dumps(self.about)})

    @property
    def rows(self) -> int:
        """Rows of the list, readable or not."""
        return self.about["rows"]


def load(path: Path) -> Scores:
    """The scores in a file. Raises DataError where it holds none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = dict(arrays)
        return Scores(**{**content, "about": json.loads(str(content["about"]))})
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:  # NumPy's words help nobody here
        raise DataError(path, "not a file of scores, as eval.py --scores writes them") from error


class Keeper:
    """Keeps what `evaluate` scores until `gather` brings all of it together.

    Scores stay on the device at first, so that nothing waits for it at every batch; what they take of its memory is
    bounded.
    """

    def __init__(self, views: bool = False, most_on_device: int = MOST_ON_DEVICE):
        self._views = views  # keep every view's logits, too
        self._most_on_device = most_on_device
        self._on_device: list[tuple[Tensor, ...]] = []
        self._bytes = 0  # of those
        self._on_host: list[list[Tensor]] = []

    def add(self, logits_BVK: Tensor, batch: Batch) -> None:
        """Keep a batch."""
        averages = (average(logits_BVK, how) for how in ("logits", "probs"))
        of_views = logits_BVK if self._views else logits_BVK.new_empty(len(logits_BVK), 0, logits_BVK.shape[2])
        kept = (batch.index_B, batch.label_B, *averages, of_views)
        self._on_device.append(kept)
        self._bytes += sum(tensor.nbytes for tensor in kept)
        if self._bytes > self._most_on_device:
            self._bring_to_host()

    def _bring_to_host(self) -> None:
        """Waits for the device."""
        if self._on_device:
            self._on_host.append([torch.cat(column).cpu() for column in zip(*self._on_device, strict=True)])
            self._on_device, self._bytes = [], 0

    def gather(self, loader: Loader, result: Result, about: dict) -> Scores | None:
        """The scores of all ranks, on rank 0; None on the others. `result` is what the same evaluation found."""
        self._bring_to_host()
        row_N, *columns = (torch.cat(column).numpy() for column in zip(*self._on_host, strict=True))
        real_N = row_N >= 0
        path_N = np.array([loader.path(row) for row in row_N[real_N].tolist()], dtype=str)
        ranks = distributed.to_rank_zero([row_N[real_N], *(column[real_N] for column in columns), path_N])
        if ranks is None:
            return None
        row_N, *columns = (np.concatenate(parts) for parts in zip(*ranks, strict=True))
        order_N = np.argsort(row_N)
        label_N, logits_NK, log_probs_NK, logits_NVK, path_N = (column[order_N] for column in columns)
        return Scores(
            row=row_N[order_N],
            label=label_N,
            path=path_N,
            logits=logits_NK,
            log_probs=log_probs_NK,
            logits_of_views=logits_NVK,
            class_names=np.array(loader.class_names, dtype=str),
            about={"rows": result.rows, "unreadable": result.unreadable, **about},
        )


def count(files: Sequence[Scores], weights: Sequence[float], how: str) -> Result:
    """What the evaluation of several networks' weighted mean scores finds; of one network's, what it found itself.

    `how` is `logits` or `probs`: which scores are averaged. Videos that one network could not read count as unreadable.
    Raises DataError where the files are not about the same list.
    """
    first = files[0]
    for other in files[1:]:
        _check_same_list(first, other)
    row_N = reduce(np.intersect1d, (file.row for file in files))
    places = [np.searchsorted(file.row, row_N) for file in files]
    columns = [file.logits if how == "logits" else file.log_probs for file in files]
    scores_NFK = np.stack([column[place] for column, place in zip(columns, places, strict=True)], axis=1)
    scores_NK = _weighted_mean(torch.from_numpy(scores_NFK).double(), torch.tensor(weights).double(), how)
    counts = Counts(scores_NK.shape[1], first.rows, torch.device("cpu"))
    counts.add(scores_NK, torch.from_numpy(first.label[places[0]]), torch.from_numpy(row_N))
    unreadable = {row: (row, path, reason) for file in files for row, path, reason in file.about["unreadable"]}
    return counts.result([unreadable[row] for row in sorted(unreadable)])


def _check_same_list(first: Scores, other: Scores) -> None:
    """Raises DataError unless two files are about the same rows: with the same labels, and the same videos.

    Where a network sees other files (flow beside RGB), their folders and endings differ, and perhaps their names. So a
    different name alone is no mistake; but one that the other file has at another row is.
    """
    classes = first.logits.shape[1], other.logits.shape[1]
    if first.rows != other.rows or classes[0] != classes[1]:
        raise DataError(
            "score files of different lists",
            f"one of {first.rows} rows and {classes[0]} classes, one of {other.rows} rows and {classes[1]} classes",
        )
    _, ours, theirs = np.intersect1d(first.row, other.row, return_indices=True)
    differs = np.flatnonzero(first.label[ours] != other.label[theirs])
    if len(differs):
        place, elsewhere = ours[differs[0]], theirs[differs[0]]
        raise DataError(
            "score files of different lists",
            f"row {first.row[place]} is {first.path[place]} of class "
            f"{first.label[place]} in one, {other.path[elsewhere]} of class {other.label[elsewhere]} in the other",
        )
    row_of = {Path(path).stem: row for path, row in zip(other.path.tolist(), other.row.tolist(), strict=True)}
    for place, elsewhere in zip(ours.tolist(), theirs.tolist(), strict=True):
        name = Path(first.path[place]).stem
        if name in row_of and name != Path(other.path[elsewhere]).stem:
            raise DataError(
                "score files of different lists",
                f"row {first.row[place]} is {first.path[place]} in one and "
                f"{other.path[elsewhere]} in the other, which has {name} in row {row_of[name]}; evaluate both networks "
                "on lists in the same order",
            )


def _weighted_mean(scores_NFK: Tensor, weight_F: Tensor, how: str) -> Tensor:
    """[N, K]: the mean logits, or the logarithm of the mean probabilities."""
    share_F1 = (weight_F / weight_F.sum())[:, None]
    if how == "logits":
        return (scores_NFK * share_F1).sum(1)
    return (scores_NFK + share_F1.log()).logsumexp(1)
