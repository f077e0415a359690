"""Fusion of score files equals NumPy's, by row and by class name; files of different lists are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dali_pipes import DataError
from dali_pipes.lists.formats.annotation import Span
from engine.evaluation import scores
from engine.evaluation.fusion import fuse
from tests.support.oracles.by_mean import ByMean, evaluated
from tests.support.tiny import RowLoader


@pytest.mark.parametrize("average", ["logits", "probs"])
def test_fused_scores_are_the_weighted_mean_of_two_networks(average):
    loader = RowLoader(40, 4, train=False, views=2, classes=8)
    other = ByMean(8)
    other.scale_K.data = torch.linspace(3, -2, 8)
    files = [evaluated(loader, classes=8, model=model)[1] for model in (ByMean(8), other)]
    result = fuse(files, [1.0, 1.5], average)
    if average == "logits":
        fused_NK = np.average([file.logits for file in files], axis=0, weights=[1, 1.5])
        fused_NK = fused_NK - np.logaddexp.reduce(fused_NK, axis=1, keepdims=True)
    else:
        fused_NK = np.logaddexp(files[0].log_probs + np.log(1 / 2.5), files[1].log_probs + np.log(1.5 / 2.5))
    label_N = np.arange(40) % 8
    assert result.correct == (fused_NK.argmax(1) == label_N).sum()
    assert result.loss == pytest.approx(-fused_NK[np.arange(40), label_N].mean(), rel=1e-6)


def test_only_videos_that_all_networks_could_read_are_fused():
    files = [evaluated(RowLoader(11, 4, train=False, bad=bad, classes=8))[1] for bad in ([2], [2, 7])]
    result = fuse(files, [1.0, 1.0], "logits")
    assert "evaluated 9 of 11 videos, 2 unreadable" in result.summary()
    assert [row for row, _, _ in result.unreadable] == [2, 7]
    alone = fuse(files[1:], [1.0], "logits")  # the same scores, without row 7
    assert result.to_json() == alone.to_json()


@pytest.mark.parametrize(
    ("rows", "classes", "message"),
    [
        (12, 8, "one of 11 rows and 8 classes, one of 12 rows and 8 classes"),
        (11, 7, "one of 11 rows and 8 classes, one of 11 rows and 7 classes"),
    ],
)
def test_files_of_different_lists_are_not_fused(rows, classes, message):
    files = [evaluated(RowLoader(n, 4, train=False, classes=k), classes=k)[1] for n, k in ((11, 8), (rows, classes))]
    with pytest.raises(DataError, match=message):
        fuse(files, [1.0, 1.0], "logits")


def test_the_first_row_with_two_labels_is_named():
    files = [evaluated(RowLoader(11, 4, train=False, classes=k))[1] for k in (8, 3)]
    with pytest.raises(DataError, match=r"row 3 is 3\.mp4 of class 3 in one, 3\.mp4 of class 0 in the other"):
        fuse(files, [1.0, 1.0], "logits")


def test_lists_in_different_orders_are_not_fused_though_their_labels_agree():
    rgb, flow = (evaluated(RowLoader(11, 4, train=False, classes=8))[1] for _ in range(2))
    swapped = flow.path.copy()
    swapped[[2, 10]] = swapped[[10, 2]]  # both of class 2
    with pytest.raises(DataError, match=r"row 2 is 2\.mp4 in one and 10\.mp4 in the other, which has 2 in row 10"):
        fuse([rgb, replace(flow, path=swapped)], [1.0, 1.0], "logits")


def of_parts(spans):
    """Return scores of a list whose rows are parts of one video, all of class 0."""
    loader = RowLoader(len(spans), 4, train=False, classes=1)
    loader.path, loader.span = (lambda row: "match.mp4"), spans.__getitem__
    return evaluated(loader, classes=8)[1]


def test_parts_of_a_video_in_different_orders_are_not_fused(tmp_path):
    spans = [Span(0.0, 1.5), Span(1.5), Span()]
    first, swapped = of_parts(spans), of_parts([spans[1], spans[0], spans[2]])
    first.save(tmp_path / "first.npz")
    assert scores.load(tmp_path / "first.npz").about["parts"] == {"0": [0.0, 1.5], "1": [1.5, None]}
    seen = (
        r"row 0 is match\.mp4 from 0 s to 1\.5 s in one and match\.mp4 from 1\.5 s to the end in the other, which has"
    )
    for files in ([first, swapped], [scores.load(tmp_path / "first.npz"), swapped]):
        with pytest.raises(DataError, match=rf"{seen} match from 0 s to 1\.5 s in row 1"):
            fuse(files, [1.0, 1.0], "logits")
    old = replace(first, about={key: value for key, value in first.about.items() if key != "parts"})
    for other in (of_parts(spans), of_parts([Span(0.1, 1.4), Span(1.4), Span()]), old):
        assert fuse([first, other], [1.0, 1.0], "logits").evaluated == 3


@pytest.mark.parametrize("form", ["elsewhere/{}.avi", "{}_flow"])
def test_videos_of_other_folders_endings_or_names_are_fused(form):
    rgb, flow = (evaluated(RowLoader(11, 4, train=False, classes=8))[1] for _ in range(2))
    flow = replace(flow, path=np.array([form.format(row) for row in flow.row]))
    assert fuse([rgb, flow], [1.0, 1.0], "logits").evaluated == 11


def named(names, order=None):
    """Return scores of a network with class names, for a list whose row r has class r % 3 of a, b, c."""
    kept = evaluated(RowLoader(7, 4, train=False, classes=3), classes=3)[1]
    label_K = np.array(["abc".index(name) for name in order or names])
    return replace(
        kept,
        class_names=np.array(names),
        logits=kept.logits[:, label_K],
        log_probs=kept.log_probs[:, label_K],
        label=np.argsort(label_K)[kept.label],
        about=kept.about | {"list": "same"},
    )


def test_files_that_number_the_same_classes_otherwise_are_fused_by_name():
    expected = fuse([named("abc"), named("abc")], [1.0, 1.0], "logits")
    found = fuse([named("abc"), named("cab")], [1.0, 1.0], "logits")
    assert found.to_json() == expected.to_json()


def test_files_of_other_classes_are_refused_though_there_are_as_many():
    with pytest.raises(DataError, match="of different classes: only one has 'd', only the other 'c'"):
        fuse([named("abc"), named("abd", "abc")], [1.0, 1.0], "logits")


def test_a_file_without_class_names_is_fused_by_number():
    unnamed = replace(named("abc"), class_names=np.array([], dtype=str))
    assert fuse([named("abc"), unnamed], [1.0, 1.0], "logits").evaluated == 7
