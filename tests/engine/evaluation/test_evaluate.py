"""Exact accuracy, against counting by hand."""

import numpy as np
import pytest
import torch

from dali_pipes import DataError
from engine.evaluation import results
from engine.evaluation.accuracy import NOT_FINITE, Counts, Result
from engine.evaluation.evaluate import evaluate
from tests.support import tiny
from tests.support.oracles.by_mean import ByMean, logits_NVK, softmax
from tests.support.tiny import RowLoader


def settings(classes=3, average="logits", **sections):
    return tiny.config(model={"num_classes": classes}, eval={"average": average}, **sections)


def run(loader, classes=3, average="logits"):
    return evaluate(ByMean(classes), loader, settings(classes, average))


@pytest.mark.parametrize("classes", [3, 8])
@pytest.mark.parametrize("average", ["logits", "probs"])
@pytest.mark.parametrize("views", [1, 3])
def test_counts_are_those_of_numpy_over_views_and_a_partial_last_batch(classes, average, views):
    loader = RowLoader(11, 4, train=False, views=views, classes=classes)
    result = run(loader, classes, average)
    each_NVK = logits_NVK(loader, classes)
    score_NK = each_NVK.mean(1) if average == "logits" else np.log(softmax(each_NVK).mean(1))
    label_N = np.arange(11) % classes
    order_NK = np.argsort(-score_NK, axis=1)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (label_N, order_NK[:, 0]), 1)
    in_top5 = (order_NK[:, :5] == label_N[:, None]).any(1)
    assert result.confusion_KK.tolist() == confusion.tolist()
    top5_K = np.bincount(label_N[in_top5], minlength=classes).tolist()
    assert result.to_json().get("top5_per_class") == (top5_K if classes > 5 else None)
    assert result.loss == pytest.approx(-np.log(softmax(score_NK))[np.arange(11), label_N].mean(), rel=1e-5)


def test_totals_follow_from_the_counts():
    result = run(RowLoader(11, 4, train=False, classes=8), 8)
    assert result.evaluated == 11
    assert result.correct == sum(result.confusion_KK[k, k] for k in range(8))
    assert result.top1 == result.correct / 11
    assert result.top5 == int(result.top5_K.sum()) / 11
    per_class = [result.confusion_KK[k, k] / result.confusion_KK[k].sum() for k in range(8)]
    assert result.mean_class == pytest.approx(sum(float(x) for x in per_class) / 8)


def test_a_class_without_videos_has_no_share_in_the_mean_over_classes():
    confusion_KK = torch.tensor([[3, 1, 0], [0, 1, 1], [0, 0, 0]])
    result = Result(confusion_KK, confusion_KK.diagonal(), loss=0.0, rows=6, unreadable=[])
    assert result.mean_class == (3 / 4 + 1 / 2) / 2


@pytest.mark.parametrize("classes", [3, 5, 6])
def test_up_to_five_classes_have_no_best_five_anywhere(classes):
    result = run(RowLoader(7, 4, train=False, classes=classes), classes)
    told = [result.top5 is not None, "top5" in result.summary(), "top5" in result.numbers()]
    content = result.to_json()
    written = "top5_per_class" in content
    shown = "top5" in next(results.lines(result, ()))
    assert [*told, written, shown] == [classes > 5] * 5
    assert None not in content.values()
    assert Result.from_json(content).to_json() == content
    of_older_version = Result.from_json(content | {"top5_per_class": [1] * classes})
    assert (of_older_version.top5 is None) == (classes <= 5)


def test_unreadable_videos_are_left_out_and_reported():
    readable = run(RowLoader(11, 4, train=False), 3)
    result = run(RowLoader(11, 4, train=False, bad=[2, 7]), 3)
    assert [row for row, _, _ in result.unreadable] == [2, 7]
    assert "evaluated 9 of 11 videos, 2 unreadable" in result.summary()
    assert int((readable.confusion_KK - result.confusion_KK).sum()) == 2
    assert int((readable.confusion_KK - result.confusion_KK).min()) == 0


def test_the_loss_is_the_mean_over_the_videos_that_could_be_read():
    loader = RowLoader(11, 4, train=False, bad=[2, 7])
    score_NK = logits_NVK(loader, 3)[:, 0]
    loss_N = -np.log(softmax(score_NK))[np.arange(11), np.arange(11) % 3]
    assert run(loader).loss == pytest.approx(np.delete(loss_N, [2, 7]).mean(), rel=1e-5)


def test_evaluating_no_readable_video_is_a_data_error():
    with pytest.raises(DataError, match=r"none of 3 videos could be evaluated: 0\.mp4: is empty"):
        run(RowLoader(3, 4, train=False, bad=[0, 1, 2]), 3)


def test_a_loader_that_repeats_a_video_is_an_error():
    loader = RowLoader(4, 4, train=False)
    loader._order = lambda epoch: [0, 1, 2, 2]
    with pytest.raises(RuntimeError, match="2 videos were not evaluated exactly once"):
        run(loader, 3)


def test_the_models_mode_is_left_as_it_was():
    model = ByMean(3)
    evaluate(model, RowLoader(4, 4, train=False), settings())
    assert model.training


def test_json_holds_counts_from_which_the_totals_follow():
    found = run(RowLoader(11, 4, train=False, bad=[1], classes=8), 8).to_json()
    assert sum(found["videos_per_class"]) == found["evaluated"] == 10
    assert sum(found["top1_per_class"]) == found["correct"] == round(found["top1"] * 10)
    assert found["unreadable_videos"] == [[1, "1.mp4", "is empty"]]


@pytest.mark.parametrize("train", [{"batch": 3}, {"batch": 6, "accumulate": 2}])
def test_a_forward_pass_of_evaluation_has_at_most_the_frames_of_a_training_batch(train):
    loader = RowLoader(3, 2, train=False, views=5)
    model = ByMean(3)
    result = evaluate(model, loader, settings(train=train))
    assert model.sizes == [3, 3, 2, 2] * 2  # two batches of 2 videos in 5 views each
    assert result.to_json() == run(loader).to_json()


def test_a_clip_longer_than_a_training_batch_is_evaluated_alone():
    model = ByMean(3)
    evaluate(model, RowLoader(1, 1, train=False, views=2, frames=25), settings(train={"batch": 1}))
    assert model.sizes == [1, 1]


def test_equal_scores_rank_by_label():
    counts = Counts(classes=6, rows=6, device=torch.device("cpu"))
    counts.add(torch.zeros(6, 6), torch.arange(6), torch.arange(6))
    assert counts.confusion.view(6, 6)[:, 0].tolist() == [1, 1, 1, 1, 1, 1]
    assert counts.top5_K.tolist() == [1, 1, 1, 1, 1, 0]


def without_scores(loader, rows, value=np.nan):
    """Return the loader with clips of these rows that make scores overflow, or are not finite."""
    clip = loader._clip
    loader._clip = lambda row: torch.full_like(clip(row), value) if row in rows else clip(row)
    return loader


@pytest.mark.parametrize("value", [np.nan, 1e25])
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_a_video_whose_scores_are_no_numbers_is_of_no_class_and_named(average, value):
    readable = run(RowLoader(11, 4, train=False, bad=[0, 3, 7]), average=average)
    result = run(without_scores(RowLoader(11, 4, train=False, bad=[7]), [0, 3], value), average=average)
    assert result.unreadable == [(0, "0.mp4", NOT_FINITE), (3, "3.mp4", NOT_FINITE), (7, "7.mp4", "is empty")]
    assert "evaluated 8 of 11 videos, 1 unreadable, 2 with scores that are not finite" in result.summary()
    assert (result.numbers(), result.confusion_KK.tolist()) == (readable.numbers(), readable.confusion_KK.tolist())
    assert {example.path for example in result.examples} == {example.path for example in readable.examples}


def test_a_network_without_finite_scores_is_a_data_error():
    with pytest.raises(DataError, match=r"none of 3 videos could be evaluated: 0\.mp4: the scores .* are not finite"):
        run(without_scores(RowLoader(3, 4, train=False), range(3)))


def test_the_loss_is_the_same_to_the_bit_in_whatever_order_the_videos_come():
    scores_BK, label_B = torch.randn(500, 6) * 30, torch.randint(6, (500,))
    losses = set()
    for order in (torch.arange(500), torch.arange(500).flip(0), torch.randperm(500)):
        counts = Counts(classes=6, rows=500, device=torch.device("cpu"))
        for part in order.split(7):
            counts.add(scores_BK[part], label_B[part], part)
        losses.add(counts.result([]).loss)
    assert len(losses) == 1
