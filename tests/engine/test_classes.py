"""The classifier of a weights file, matched to the classes of the data by name."""

import pytest
import torch

from configs import ConfigError
from engine.classes import fit_classifier, stored_names
from models import CheckpointError, build_model, load_pretrained, load_weights
from tests.support import tiny


@pytest.fixture
def fitted(tmp_path, caplog):
    """Return a function that loads a classifier with rows 0, 1, ..., fits it, and returns the rows and the log."""

    def fit(in_file, names, *, whole=False):
        classes = max(3, len(in_file))
        source = build_model(tiny.config(model={"num_classes": classes}).model)
        with torch.no_grad():
            source.fc.weight.copy_(torch.arange(classes)[:, None].expand_as(source.fc.weight) + 1)
            source.fc.bias.copy_(torch.arange(classes) + 1)
        torch.save({"model": source.state_dict(), "class_names": in_file}, tmp_path / "x.pt")
        model = build_model(tiny.config(model={"num_classes": max(2, len(names) or 3)}).model)
        loaded = (load_weights if whole else load_pretrained)(model, tmp_path / "x.pt")
        fit_classifier(model, loaded, names, whole=whole)
        assert not (model.fc.weight == model.fc.weight[:, :1]).all(1).logical_xor(model.fc.bias > 0).any()
        return model.fc.bias.tolist(), caplog.text

    return fit


def test_rows_follow_reordered_names(fitted):
    rows, text = fitted(("a", "b", "c"), ("c", "a", "b"))
    assert rows == [3, 1, 2] and "3 of 3 classes taken by name" in text


def test_a_new_class_starts_anew_though_the_counts_are_equal(fitted):
    rows, text = fitted(("blue", "green", "red"), ("green", "red", "sky_blue"))
    assert rows == [2, 3, 0]
    assert "2 of 3 classes taken by name" in text and "new: 'sky_blue'; not needed: 'blue'" in text


def test_known_classes_keep_their_rows_where_the_counts_differ(fitted):
    assert fitted(("a", "b", "c"), ("d", "c", "b", "a"))[0] == [0, 3, 2, 1]


def test_equal_class_names_keep_the_classifier_silently(fitted):
    assert fitted(("a", "b", "c"), ("a", "b", "c")) == ([1, 2, 3], "")


@pytest.mark.parametrize("in_file, names", [((), ("a", "b", "c")), (("a", "b", "c"), ())])
def test_without_names_on_both_sides_the_classifier_is_kept_with_a_log_line(fitted, in_file, names):
    rows, text = fitted(in_file, names)
    assert rows == [1, 2, 3] and "no class names" in text and "cannot be compared" in text


def test_weights_of_the_whole_network_may_be_reordered_but_not_of_other_classes(fitted):
    assert fitted(("a", "b", "c"), ("b", "c", "a"), whole=True)[0] == [2, 3, 1]
    with pytest.raises(ConfigError, match="does not know: 'd', and lacks 'a' of the network"):
        fitted(("a", "b", "c"), ("b", "c", "d"), whole=True)


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (("a", "b", "c", "d"), "has 4 class names for 3 classes"),
        (["a", "b", "a"], "two of its class names are the same"),
    ],
)
def test_a_file_has_no_more_names_than_classes_and_none_twice(names, seen):
    with pytest.raises(CheckpointError, match=f"x.pt: {seen}"):
        stored_names({"class_names": names, "config": {"model.num_classes": 3}}, "x.pt")
    assert stored_names({"class_names": ("a", "b"), "config": {"model.num_classes": 3}}, "x.pt") == ("a", "b")
