"""Example videos of an evaluation: confident mistakes, hard videos and confident right ones, each video once."""

import torch

from dali_pipes.lists.formats.annotation import WHOLE, Span
from engine.evaluation.evaluate import evaluate
from engine.evaluation.examples import HARD, MISTAKE, MOST, RIGHT, Guesses
from tests.support import tiny
from tests.support.oracles.by_mean import ByMean


def chosen(probability, label_B):
    """Return the examples of videos with these probabilities of class 1 of two, in two batches."""
    one_B = torch.tensor(probability)
    score_BK = torch.stack([1 - one_B, one_B], 1).log()
    guesses = Guesses(len(one_B), torch.device("cpu"))
    for part in torch.arange(len(one_B)).tensor_split(2):
        guesses.add(score_BK[part], torch.tensor(label_B)[part], part)
    return guesses.examples(str, lambda row: Span(2.0 * row) if row % 2 else WHOLE)


def test_each_video_is_chosen_once_mistakes_first():
    examples = chosen([0.9, 0.6, 0.95, 0.55, 0.2], [0, 0, 1, 1, 0])
    assert [(one.kind, one.path) for one in examples] == [
        (MISTAKE, "0"),
        (MISTAKE, "1"),
        (HARD, "3"),
        (HARD, "4"),
        (HARD, "2"),
    ]
    assert (examples[0].label, examples[0].predicted) == (0, 1)
    assert round(examples[0].confidence, 6) == 0.9 and round(examples[0].truth, 6) == 0.1
    assert [(one.start, one.end) for one in examples[:2]] == [(0, None), (2, None)]


def test_right_examples_are_the_most_confident_not_shown_as_hard():
    examples = chosen([0.5 + number / 100 for number in range(1, 15)], [1] * 14)
    by_kind = {kind: [one.path for one in examples if one.kind == kind] for kind in (HARD, RIGHT)}
    assert by_kind == {HARD: [str(row) for row in range(MOST)], RIGHT: ["13", "12", "11", "10", "9", "8"]}


def test_an_evaluation_chooses_among_the_videos_that_it_could_read():
    loader = tiny.RowLoader(5, 4, train=False, bad=(2,))
    result = evaluate(ByMean(3), loader, tiny.config())
    assert {example.path for example in result.examples} == {"0.mp4", "1.mp4", "3.mp4", "4.mp4"}
