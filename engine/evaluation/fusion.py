"""Evaluate the scores of score files: the weighted mean of several networks, or one network's scores again.

Shapes: F score files, K classes, N readable videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from dali_pipes import DataError
from dali_pipes.errors import Unreadable
from dali_pipes.lists.formats.annotation import Span
from dali_pipes.lists.formats.class_names import class_numbers, only_in, some
from engine.evaluation.accuracy import Counts, Result
from engine.evaluation.scores import Name, Scores


def fuse(files: Sequence[Scores], weights: Sequence[float], how: str) -> Result:
    """Evaluate the weighted mean of several networks' scores, or one network's scores again.

    `how` is `logits` or `probs`: the scores to average. Videos that one network could not read count as unreadable.
    Raises DataError if the files are not of the same list.
    """
    first = files[0]
    files = [first, *(_in_class_order(other, first) for other in files[1:])]
    for other in files[1:]:
        _check_same_list(first, other)
    row_N = reduce(np.intersect1d, (file.row for file in files))
    places = [np.searchsorted(file.row, row_N) for file in files]
    columns = [file.logits if how == "logits" else file.log_probs for file in files]
    scores_NFK = np.stack([column[place] for column, place in zip(columns, places, strict=True)], axis=1)
    scores_NK = _weighted_mean(torch.from_numpy(scores_NFK).double(), torch.tensor(weights).double(), how)
    counts = Counts(scores_NK.shape[1], first.rows, torch.device("cpu"))
    counts.add(scores_NK, torch.from_numpy(first.label[places[0]]), torch.from_numpy(row_N))
    unreadable = {row: Unreadable(row, *rest) for file in files for row, *rest in file.about["unreadable"]}
    return counts.result([unreadable[row] for row in sorted(unreadable)])


def _in_class_order(scores: Scores, first: Scores) -> Scores:
    """Return scores with the classes in the order of another file. Raises DataError if they are other classes.

    Classes without names in one of the files cannot be compared; they are taken as they are.
    """
    names, wanted = scores.class_names.tolist(), first.class_names.tolist()
    if names == wanted or not names or not wanted:
        return scores
    new, absent = only_in(names, wanted), only_in(wanted, names)
    if new or absent:
        one, other = (some(classes) if classes else "none more" for classes in (new, absent))
        raise DataError("score files", f"of different classes: only one has {one}, only the other {other}")
    number_K = class_numbers("score files", names, range(len(names)), wanted)
    order_K = np.argsort(number_K)
    return replace(
        scores,
        label=number_K[scores.label],
        logits=scores.logits[:, order_K],
        log_probs=scores.log_probs[:, order_K],
        logits_of_views=scores.logits_of_views[:, :, order_K],
        class_names=first.class_names,
    )


def _check_same_list(first: Scores, other: Scores) -> None:
    """Raise DataError unless two files have the same rows, with the same labels and the same videos.

    Networks on different inputs (flow and RGB) have files in other folders, perhaps with other names or endings. So
    a different name alone is no error, but a name that the other file has in another row is.
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
    names, others = first.names(), other.names()
    row_of = dict(zip(others, other.row.tolist(), strict=True))
    for place, elsewhere in zip(ours.tolist(), theirs.tolist(), strict=True):
        name = names[place]
        if name in row_of and name != others[elsewhere]:
            raise DataError(
                "score files of different lists",
                f"row {first.row[place]} is {first.path[place]}{_part(name)} in one and "
                f"{other.path[elsewhere]}{_part(others[elsewhere])} in the other, which has {name[0]}{_part(name)} in "
                f"row {row_of[name]}; evaluate both networks on lists in the same order",
            )


def _part(name: Name) -> str:
    """Write the part of a video, if it is one."""
    return f" from {Span(name[1], math.inf if name[2] is None else name[2])}" if len(name) > 1 else ""


def _weighted_mean(scores_NFK: Tensor, weight_F: Tensor, how: str) -> Tensor:
    """Return scores_NK: the weighted mean logits, or the logarithm of the weighted mean probabilities."""
    share_F1 = (weight_F / weight_F.sum())[:, None]
    if how == "logits":
        return (scores_NFK * share_F1).sum(1)
    return (scores_NFK + share_F1.log()).logsumexp(1)
