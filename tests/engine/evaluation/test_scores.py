"""Score files: they contain every digit of the evaluation, and any other file is refused."""

import io
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from dali_pipes import DataError
from dali_pipes.errors import Unreadable
from engine.evaluation import scores
from engine.evaluation.evaluate import evaluate
from engine.evaluation.fusion import fuse
from tests.support import tiny
from tests.support.oracles.by_mean import ByMean, evaluated, logits_NVK, softmax
from tests.support.tiny import RowLoader


def saved(folder, kept):
    """Return the scores, written and read back."""
    kept.save(folder / "scores.npz")
    return scores.load(folder / "scores.npz")


@pytest.mark.parametrize("average", ["logits", "probs"])
def test_a_score_file_counted_again_gives_every_digit_of_the_evaluation(tmp_path, average):
    result, kept = evaluated(RowLoader(11, 4, train=False, views=3, bad=[2], classes=8), average=average)
    again = fuse([saved(tmp_path, kept)], [1.5], average)
    assert again.to_json() == result.to_json()


def test_a_score_file_contains_rows_labels_paths_names_and_unreadable_videos(tmp_path):
    loader = RowLoader(11, 4, train=False, views=3, bad=[2], classes=8)
    loader.class_names = tuple("abcdefgh")
    kept = saved(tmp_path, evaluated(loader, views=True)[1])
    rows = [row for row in range(11) if row != 2]
    each_NVK = logits_NVK(loader, 8)[rows]
    assert kept.row.tolist() == rows
    assert kept.label.tolist() == [row % 8 for row in rows]
    assert kept.path.tolist() == [f"{row}.mp4" for row in rows]
    assert kept.class_names.tolist() == list("abcdefgh")
    assert kept.about["unreadable"] == [[2, "2.mp4", "is empty"]]
    np.testing.assert_allclose(kept.logits_of_views, each_NVK, rtol=1e-4, atol=1e-5)  # float32 against float64
    np.testing.assert_allclose(kept.logits, each_NVK.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept.log_probs, np.log(softmax(each_NVK).mean(1)), rtol=1e-4, atol=1e-5)
    assert kept.logits.dtype == kept.log_probs.dtype == kept.logits_of_views.dtype == np.float32


def test_scores_of_views_are_kept_only_on_request(tmp_path):
    assert saved(tmp_path, evaluated(RowLoader(3, 4, train=False, views=3))[1]).logits_of_views.shape == (3, 0, 8)


def test_a_path_that_is_no_text_is_kept(tmp_path):
    loader = RowLoader(1, 1, train=False)
    loader.path = lambda row: "a\udcff 手.mp4"  # as Python reads bytes that are not UTF-8
    assert saved(tmp_path, evaluated(loader)[1]).path.tolist() == ["a\udcff 手.mp4"]


def test_rows_of_several_ranks_are_brought_into_the_order_of_the_list(monkeypatch):
    shares = [slice(1, None, 2), slice(0, None, 2)]
    monkeypatch.setattr(
        scores.distributed, "to_rank_zero", lambda columns: [[c[share] for c in columns] for share in shares]
    )
    kept = evaluated(RowLoader(11, 4, train=False, classes=8))[1]
    assert kept.row.tolist() == list(range(11))
    assert kept.label.tolist() == [row % 8 for row in range(11)]
    assert kept.path.tolist() == [f"{row}.mp4" for row in range(11)]


def test_the_digest_of_a_list_follows_rows_paths_and_names_and_not_the_numbers_of_classes():
    rows, paths, bad = np.arange(3), np.array(["x", "y", "z"]), []
    digest = scores.list_digest(rows, paths, np.array([0, 1, 1]), "ab", bad)
    assert digest == scores.list_digest(rows, paths, np.array([1, 0, 0]), "ba", bad)
    others = [
        scores.list_digest(rows, paths, np.array([1, 0, 0]), "ab", bad),
        scores.list_digest(rows, paths[::-1], np.array([0, 1, 1]), "ab", bad),
        scores.list_digest(rows[:2], paths[:2], np.array([0, 1]), "ab", [Unreadable(2, "other", "is empty")]),
    ]
    assert len({digest, *others}) == 4


def test_scores_copied_to_the_host_early_are_the_same(tmp_path, monkeypatch):
    loader, model = RowLoader(11, 4, train=False, views=3, bad=[2], classes=8), ByMean(8)
    files = []
    for name, most_on_device in (("all", 2**28), ("none", 0), ("some", 1000)):
        monkeypatch.setattr(scores, "MOST_ON_DEVICE", most_on_device)
        keeper = scores.ScoreCollector(views=True)
        result = evaluate(model, loader, tiny.config(model={"num_classes": 8}), keeper.add)
        keeper.gather(loader, result, {}).save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] == files[2]


def test_scores_beyond_the_bound_are_on_the_host(monkeypatch):
    monkeypatch.setattr(scores, "MOST_ON_DEVICE", 0)
    keeper = scores.ScoreCollector(views=True)
    evaluate(ByMean(8), RowLoader(4, 2, train=False), tiny.config(model={"num_classes": 8}), keeper.add)
    assert (len(keeper._on_device), len(keeper._on_host)) == (0, 2)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused_as_a_score_file(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: not a file of scores"):
        scores.load(tmp_path / "x.npz")


def test_an_archive_of_other_arrays_or_of_pickles_is_no_score_file(tmp_path):
    np.savez(tmp_path / "other.npz", row=np.arange(3))
    np.savez(tmp_path / "pickle.npz", about=np.array({}, dtype=object))
    for name in ("other.npz", "pickle.npz"):
        with pytest.raises(DataError, match="not a file of scores"):
            scores.load(tmp_path / name)


def test_videos_without_finite_scores_are_not_in_the_file_but_named_in_it():
    loader = RowLoader(5, 4, train=False, classes=8)
    clip = loader._clip
    loader._clip = lambda row: torch.full_like(clip(row), np.nan) if row == 2 else clip(row)
    result, kept = evaluated(loader)
    assert kept.row.tolist() == [0, 1, 3, 4]
    assert [entry[:2] for entry in kept.about["unreadable"]] == [(2, "2.mp4")]
    assert fuse([kept], [1.0], "logits").numbers() == result.numbers()


def test_a_file_with_scores_that_are_not_finite_is_refused_with_a_video(tmp_path):
    _, kept = evaluated(RowLoader(5, 4, train=False, classes=8))
    kept.logits[3, 1] = np.nan
    with pytest.raises(DataError, match=r"scores\.npz: the scores of 1 videos are not finite, such as those of 3\.mp4"):
        saved(tmp_path, kept)


def archive_of(path, kept, compression=zipfile.ZIP_STORED, **replaced):
    """Return a score file with other bytes in some of its arrays."""
    kept.save(path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()} | replaced
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(shape, data=b""):
    """Return an array file whose header gives this shape, whatever its data."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue() + data


@pytest.mark.parametrize(
    ("array", "edit"),
    [
        ("row", lambda row_N: row_N[::-1]),
        ("row", lambda row_N: np.where(row_N == 1, 0, row_N)),
        ("row", lambda row_N: row_N + 1),
        ("row", lambda row_N: row_N.astype(float)),
        ("row", lambda row_N: row_N[:-1]),
        ("label", lambda label_N: label_N - 1),
        ("label", lambda label_N: label_N + 1),
        ("label", lambda label_N: label_N + 0.5),
        ("log_probs", lambda log_probs_NK: log_probs_NK[:, :-1]),
        ("class_names", lambda names_K: names_K[:-1]),
        ("class_names", lambda names_K: np.where(names_K == "b", "a", names_K)),
        ("about", lambda about: about | {"rows": 10**12}),
        ("about", lambda about: about | {"unreadable": [[0, "0.mp4", "is empty"]]}),
    ],
)
def test_a_score_file_whose_arrays_do_not_fit_each_other_is_refused(tmp_path, array, edit):
    loader = RowLoader(8, 4, train=False, classes=8)
    loader.class_names = tuple("abcdefgh")
    kept = evaluated(loader)[1]
    with pytest.raises(DataError, match=r"its arrays do not fit each other: it has changed since eval\.py wrote it"):
        saved(tmp_path, replace(kept, **{array: edit(getattr(kept, array))}))


@pytest.mark.parametrize("bomb", ["compressed", "claims", "brackets", "many"])
def test_a_small_score_file_takes_no_more_memory_than_its_size(tmp_path, bomb):
    path, (_, kept) = tmp_path / "bomb.npz", evaluated(RowLoader(3, 4, train=False, classes=8))
    if bomb == "compressed":
        archive_of(path, kept, zipfile.ZIP_DEFLATED, **{"logits.npy": npy((2**24,), bytes(2**26))})
    elif bomb == "claims":
        archive_of(path, kept, **{"logits.npy": npy((2**20, 2**20))})
    elif bomb == "brackets":
        content = io.BytesIO()
        np.save(content, "[" * 100_000)
        archive_of(path, kept, **{"about.npy": content.getvalue()})
    else:
        archive_of(path, kept, **{f"{number}.npy": b"" for number in range(1000)})
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.npz: not a file of scores"):
        scores.load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size < 2**20 and most < 2**23
