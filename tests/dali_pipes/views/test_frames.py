"""Frames of a clip, against the output of MIT TSM and PaddleVideo."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.views import frames
from tests.support.paths import DATA

MIT = np.load(DATA / "mit_sampling.npz")  # for 1..400 frames, counted from 1
PADDLE = json.loads((DATA / "paddle_data_golden.json").read_text())
SEGMENTS = [3, 5, 8, 16]
COUNTS = MIT["num_frames"]
BELOW_ONE = np.nextafter(1, 0)

frame_counts = st.lists(st.integers(1, 10**6), min_size=1, max_size=20).map(np.array)
clip_lengths = st.integers(1, 70)
clip_counts = st.integers(1, 12)
draws = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("T", SEGMENTS)
def test_one_uniform_clip_is_mit_test_for_every_length(T):
    np.testing.assert_array_equal(frames.uniform_clips(COUNTS, T, clips=1)[:, 0] + 1, MIT[f"test_uniform_{T}"])


@pytest.mark.parametrize("T", SEGMENTS)
def test_two_uniform_clips_are_mit_twice_sample_for_every_length(T):
    ours = frames.uniform_clips(COUNTS, T, clips=2).reshape(len(COUNTS), -1)
    np.testing.assert_array_equal(ours + 1, MIT[f"test_twice_{T}"])


@pytest.mark.parametrize("T", SEGMENTS)
def test_ten_dense_clips_are_mit_test(T):
    long_enough = COUNTS >= T
    ours = frames.dense_clips(COUNTS, T, clips=10).reshape(len(COUNTS), -1)
    np.testing.assert_array_equal(ours[long_enough] + 1, MIT[f"test_dense_{T}"][long_enough])


@pytest.mark.parametrize("T", SEGMENTS)
def test_uniform_training_draws_span_the_segments_that_mit_draws_from(T):
    long_enough = COUNTS >= T
    mit = MIT[f"train_uniform_{T}_seed_eq_n"][long_enough] - 1
    lowest, highest = (
        frames.uniform_draw(COUNTS, np.full((len(COUNTS), T), draw))[long_enough] for draw in (0, BELOW_ONE)
    )
    assert np.all((lowest <= mit) & (mit <= highest))
    np.testing.assert_array_equal(lowest, [[s * (n // T) for s in range(T)] for n in COUNTS[long_enough]])
    np.testing.assert_array_equal(highest - lowest + 1, [[n // T] * T for n in COUNTS[long_enough]])


@pytest.mark.parametrize("T", SEGMENTS)
def test_a_dense_training_draw_can_be_every_window_of_mit_and_no_other(T):
    for n in (T, 63, 64, 65, 66, 100, 400):
        draw_B = np.arange(0, 1, 1 / 4096)
        starts = set(frames.dense_draw(np.full(len(draw_B), n), T, draw_B)[:, 0].tolist())
        assert starts == set(range(max(n - 64, 1)))  # MIT: randint(0, n - 64), and 0 where there is no choice


@pytest.mark.parametrize("T", SEGMENTS)
def test_mit_dense_training_draws_can_be_ours(T):
    for n, mit in zip(COUNTS[T - 1 :], MIT[f"train_dense_{T}_seed_eq_n"][T - 1 :] - 1, strict=True):
        middle_of_start = (mit[0] + 0.5) / max(n - 64, 1)
        np.testing.assert_array_equal(frames.dense_draw(np.array([n]), T, np.array([middle_of_start]))[0], mit)


@pytest.mark.parametrize("T", [3, 8, 16, 25])
def test_one_uniform_clip_is_paddlevideo_test_where_it_does_not_collapse(T):
    golden = {int(n): chosen for n, chosen in PADDLE["sampler_val"][f"T{T} left video"].items() if int(n) > T}
    ours = frames.uniform_clips(np.array(list(golden)), T, clips=1)[:, 0]
    np.testing.assert_array_equal(ours, list(golden.values()))


@pytest.mark.parametrize("T", [3, 8])
def test_uniform_training_draws_have_paddlevideo_ranges(T):
    ranges = {int(n): r for n, r in PADDLE["sampler_train_range"][f"T{T} left frame"].items() if int(n) >= T}
    counts = np.array(list(ranges))
    lowest, highest = (frames.uniform_draw(counts, np.full((len(counts), T), draw)) for draw in (0, BELOW_ONE))
    np.testing.assert_array_equal(lowest + 1, [r["min"] for r in ranges.values()])
    np.testing.assert_array_equal(highest + 1, [r["max"] for r in ranges.values()])


def test_clips_of_one_video_start_at_the_centre_and_divide_a_segment_evenly():
    starts = frames.uniform_clips(np.array([8 * 120]), T=8, clips=6)[0, :, 0]
    assert starts.tolist() == [60, 80, 100, 0, 20, 40]


def test_one_dense_clip_is_the_middle_window():
    assert frames.dense_clips(np.array([64 + 100]), T=8, clips=1).tolist() == [[list(range(50, 114, 8))]]


def test_dense_windows_include_the_first_and_the_last():
    starts = frames.dense_clips(np.array([64 + 98]), T=8, clips=50)[0, :, 0]
    assert starts.tolist() == list(range(0, 99, 2))


def test_a_dense_clip_longer_than_its_window_takes_every_frame():
    assert frames.dense_clips(np.array([64 + 100]), T=80, clips=1).tolist() == [[list(range(50, 130))]]


@pytest.mark.parametrize("n, expected", [(1, [0] * 8), (3, [0, 0, 0, 1, 1, 2, 2, 2]), (7, [0, 1, 2, 3, 3, 4, 5, 6])])
def test_a_video_shorter_than_a_clip_repeats_its_frames_evenly(n, expected):
    counts = np.array([n])
    assert frames.uniform_clips(counts, 8, clips=1)[0, 0].tolist() == expected
    assert frames.uniform_draw(counts, np.full((1, 8), 0.9))[0].tolist() == expected
    assert frames.dense_draw(counts, 8, np.array([0.9]))[0].tolist() == expected
    assert frames.dense_clips(counts, 8, clips=2)[0].tolist() == [expected] * 2


def test_a_clip_of_all_frames_holds_each_once():
    counts = np.array([8])
    assert frames.uniform_draw(counts, np.full((1, 8), 0.5))[0].tolist() == list(range(8))
    assert frames.uniform_clips(counts, 8, clips=2)[0].tolist() == [list(range(8))] * 2


@given(frame_counts, clip_lengths, clip_counts)
def test_fixed_clips_stay_inside_the_video(counts, T, clips):
    for rule in (frames.uniform_clips, frames.dense_clips):
        chosen = rule(counts, T, clips)
        assert chosen.shape == (len(counts), clips, T)
        assert np.all((chosen >= 0) & (chosen < counts[:, None, None]))


@given(frame_counts, clip_lengths, draws)
def test_drawn_clips_stay_inside_the_video(counts, T, draw):
    uniform = frames.uniform_draw(counts, np.full((len(counts), T), draw))
    dense = frames.dense_draw(counts, T, np.full(len(counts), draw))
    for chosen in (uniform, dense):
        assert chosen.shape == (len(counts), T)
        assert np.all((chosen >= 0) & (chosen < counts[:, None]))


@given(frame_counts, st.lists(draws, min_size=1, max_size=70), clip_counts)
def test_uniform_clips_never_go_back_in_time(counts, draw, clips):
    drawn = frames.uniform_draw(counts, np.tile(draw, (len(counts), 1)))
    fixed = frames.uniform_clips(counts, len(draw), clips)
    assert np.all(np.diff(drawn) >= 0)
    assert np.all(np.diff(fixed) >= 0)


@given(frame_counts, clip_lengths)
def test_even_repetition_uses_no_frame_much_more_often_than_another(counts, T):
    for n in counts % T + 1:
        times = np.bincount(frames.uniform_clips(np.array([n]), T, clips=1)[0, 0], minlength=n)
        assert times.max() - times.min() <= 1
