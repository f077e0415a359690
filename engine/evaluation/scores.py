"""Score files: the scores of each video, which `fusion.py` counts later, alone or with those of other networks.

A .npz of plain arrays, one row a readable video, in the order of the list:

    row, label          int64 [N]
    path                text [N]
    logits              float32 [N, K], the mean over a video's views
    log_probs           float32 [N, K], the logarithm of the mean of its views' probabilities
    logits_of_views     float32 [N, V, K], or [N, 0, K] without --scores-per-view
    class_names         text [K], or [0] if the classes have no names
    about               a JSON object: rows of the list and their digest, start and end of the rows that are parts of
                        videos, unreadable videos, settings, weights, environment

Shapes: B videos of a batch, K classes, N readable videos, V views.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dali_pipes import Batch, DataError, Loader
from dali_pipes.errors import Unreadable
from dali_pipes.lists.formats.annotation import WHOLE
from engine import distributed
from engine.evaluation.accuracy import Result
from engine.evaluation.evaluate import average
from engine.files import parse_json
from engine.outputs import Outputs

# of a video: the name of its file without ending; for a part of it also start and end, or None, in seconds
Name = tuple[str] | tuple[str, float, float | None]
MOST_ON_DEVICE = 2**28  # bytes of scores kept on the device before they are copied to the host


@dataclass(frozen=True)
class Scores:
    """The arrays of a score file, by their names in the file."""

    row: np.ndarray
    label: np.ndarray
    path: np.ndarray
    logits: np.ndarray
    log_probs: np.ndarray
    logits_of_views: np.ndarray
    class_names: np.ndarray
    about: dict

    def save(self, path: Path, outputs: Outputs | None = None) -> None:
        """Write the file completely or not at all."""
        with (outputs or Outputs()).replacing(path, "wb") as file:
            np.savez(file, **{**vars(self), "about": json.dumps(self.about)})

    @property
    def rows(self) -> int:
        """Number of rows of the list, readable or not."""
        return self.about["rows"]

    def names(self) -> list[Name]:
        """Return the video of each row; files of older versions do not tell the part of it."""
        parts = self.about.get("parts", {})
        rows = zip(self.path.tolist(), self.row.tolist(), strict=True)
        return [(Path(path).stem, *parts.get(str(row), ())) for path, row in rows]


def load(path: Path) -> Scores:
    """Load a score file. Raises DataError for any other file, one that was edited, and scores that are not finite."""
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as arrays:
            content = dict(arrays)
        scores = Scores(**{**content, "about": parse_json(str(content["about"]))})
        is_whole = _is_whole(scores)
        finite_N = np.isfinite(scores.logits).all(1) & np.isfinite(scores.log_probs).all(1)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
    ) as error:
        # NumPy's messages name internals
        raise DataError(path, "not a file of scores, as eval.py --scores writes them") from error
    if not is_whole:
        raise DataError(path, "its arrays do not fit each other: it has changed since eval.py wrote it; evaluate again")
    if not finite_N.all():
        count, first = np.count_nonzero(~finite_N), scores.path[finite_N.argmin()]
        raise DataError(path, f"the scores of {count} videos are not finite, such as those of {first}; evaluate again")
    return scores


def _is_whole(scores: Scores) -> bool:
    """Tell whether each row of the list is there once, with a label of one of the classes, or is unreadable."""
    rows, classes = scores.logits.shape
    row_N, label_N, names = scores.row, scores.label, scores.class_names.tolist()
    unreadable = {row for row, _, _ in scores.about["unreadable"]}
    parts = scores.about.get("parts", {})  # files of older versions have none
    if not isinstance(parts, dict) or not all(isinstance(part, list) and len(part) == 2 for part in parts.values()):
        return False
    return (
        row_N.shape == label_N.shape == scores.path.shape == (rows,)
        and scores.log_probs.shape == (rows, classes)
        and scores.logits_of_views.shape[::2] == (rows, classes)
        and row_N.dtype.kind == label_N.dtype.kind == "i"
        and bool((np.diff(row_N) > 0).all() and ((label_N >= 0) & (label_N < classes)).all())
        and len(names) in (0, classes)
        and len(set(names)) == len(names)
        and rows + len(unreadable) == scores.rows
        and unreadable.union(row_N.tolist()) == set(range(scores.rows))
        and scores.about["settings"]["eval.average"] in ("logits", "probs")
    )


def _check_sizes(path: Path) -> None:
    """Raise ValueError if an archive holds other arrays, or claims more bytes than it has."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if {entry.filename for entry in entries} != {f"{field.name}.npy" for field in fields(Scores)}:
            raise ValueError("other arrays")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("compressed: a small file may unpack to any size")
        for entry in entries:
            with archive.open(entry) as file:
                version, _ = np.lib.format.read_magic(file)
                read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version]
                shape, _, dtype = read(file)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise ValueError("claims more numbers than it has")


class ScoreCollector:
    """Collects the scores of an evaluation until `gather` joins those of all ranks.

    Scores stay on the device at first, so that no batch waits for it, up to MOST_ON_DEVICE bytes.
    """

    def __init__(self, views: bool = False):
        self._views = views  # also keep the logits of every view
        self._on_device: list[tuple[Tensor, ...]] = []
        self._bytes = 0  # of those
        self._on_host: list[list[Tensor]] = []

    def add(self, logits_BVK: Tensor, batch: Batch) -> None:
        """Collect the scores of a batch."""
        averages = (average(logits_BVK, how) for how in ("logits", "probs"))
        of_views = logits_BVK if self._views else logits_BVK.new_empty(len(logits_BVK), 0, logits_BVK.shape[2])
        kept = (batch.index_B, batch.label_B, *averages, of_views)
        self._on_device.append(kept)
        self._bytes += sum(tensor.nbytes for tensor in kept)
        if self._bytes > MOST_ON_DEVICE:
            self._bring_to_host()

    def _bring_to_host(self) -> None:
        """Copy the scores to the host, which waits for the device."""
        if self._on_device:
            self._on_host.append([torch.cat(column).cpu() for column in zip(*self._on_device, strict=True)])
            self._on_device, self._bytes = [], 0

    def gather(self, loader: Loader, result: Result, about: dict) -> Scores | None:
        """Return the scores of all ranks on rank 0, None on the others. `result` is of the same evaluation."""
        self._bring_to_host()
        row_N, *columns = (torch.cat(column).numpy() for column in zip(*self._on_host, strict=True))
        real_N = (row_N >= 0) & np.isfinite(columns[1]).all(1) & np.isfinite(columns[2]).all(1)
        path_N = np.array([loader.path(row) for row in row_N[real_N].tolist()], dtype=str)
        ranks = distributed.to_rank_zero([row_N[real_N], *(column[real_N] for column in columns), path_N])
        if ranks is None:
            return None
        row_N, *columns = (np.concatenate(parts) for parts in zip(*ranks, strict=True))
        order_N = np.argsort(row_N)
        row_N, label_N, logits_NK, log_probs_NK, logits_NVK, path_N = (column[order_N] for column in (row_N, *columns))
        digest = list_digest(row_N, path_N, label_N, loader.class_names, result.unreadable)
        spans = {row: span for row in row_N.tolist() if (span := loader.span(row)) != WHOLE}
        parts = {str(row): (start, None if end == math.inf else end) for row, (start, end) in spans.items()}
        return Scores(
            row=row_N,
            label=label_N,
            path=path_N,
            logits=logits_NK,
            log_probs=log_probs_NK,
            logits_of_views=logits_NVK,
            class_names=np.array(loader.class_names, dtype=str),
            about={"rows": result.rows, "list": digest, "parts": parts, "unreadable": result.unreadable, **about},
        )


def list_digest(
    row_N: np.ndarray,
    path_N: np.ndarray,
    label_N: np.ndarray,
    class_names: Sequence[str],
    unreadable: Sequence[Unreadable],
) -> str:
    """Return a SHA-256 of the rows of a list, their paths and class names, whatever the numbers of the classes."""
    rows = zip(row_N.tolist(), path_N.tolist(), label_N.tolist(), strict=True)
    lines = [(row, path, class_names[label] if len(class_names) else str(label)) for row, path, label in rows]
    lines += [(row, path, "") for row, path, _ in unreadable]
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()
