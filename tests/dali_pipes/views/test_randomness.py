"""Random numbers and orders: functions of seed, epoch, position and stream alone."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.views import randomness
from tests.support.chance import SURPRISING, surprise

DRAWS = 200_000
POSITIONS = np.arange(DRAWS)
COUNTS = st.integers(1, 5000)
SEEDS = st.integers(0, 2**63 - 1)


def test_the_hash_is_splitmix64_as_published():
    start, gamma = 1234567, int(randomness.GAMMA)
    states = np.array([(start + k * gamma) % 2**64 for k in (1, 2, 3)], np.uint64)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert randomness._mix(states).tolist() == published


def test_random_numbers_and_orders_match_recorded_values():
    drawn = randomness.uniform(seed=7, epoch=3, position_B=np.array([0, 1, 10**12]), stream=randomness.CROP)
    order = randomness.permute(seed=7, epoch=3, position_B=np.arange(10), count=10)
    assert [number.hex() for number in drawn.tolist()] == [
        "0x1.68a148a88c3c1p-1",
        "0x1.3325692111d0ep-2",
        "0x1.35638c42fe5dep-2",
    ]
    assert order.tolist() == [4, 6, 3, 0, 9, 5, 1, 2, 8, 7]


def test_numbers_lie_between_zero_and_one():
    drawn = randomness.uniform(0, 0, POSITIONS, randomness.FRAMES, count=4)
    assert drawn.min() >= 0
    assert drawn.max() < 1


def test_numbers_are_uniform():
    drawn = randomness.uniform(0, 0, POSITIONS, randomness.FRAMES)
    assert surprise(np.bincount((drawn * 1000).astype(int), minlength=1000)) < SURPRISING


@pytest.mark.parametrize("bit", range(0, 53, 4))
def test_each_bit_is_set_half_of_the_time(bit):
    drawn = (randomness.uniform(0, 0, POSITIONS, randomness.FRAMES) * 2**53).astype(np.int64)
    assert surprise(np.bincount(drawn >> bit & 1, minlength=2)) < SURPRISING


@pytest.mark.parametrize(
    "other",
    [
        {"stream": randomness.FLIP},
        {"epoch": 1},
        {"seed": 1},
        {"position_B": POSITIONS + 1},
        {"position_B": POSITIONS + 128},
        {"seed": 2**32},
    ],
    ids=lambda other: " ".join(other),
)
def test_neighbouring_sequences_are_independent(other):
    here = {"seed": 0, "epoch": 0, "position_B": POSITIONS, "stream": randomness.CROP}
    assert surprise(joint_counts(randomness.uniform(**here), randomness.uniform(**here | other))) < SURPRISING


def test_numbers_of_one_position_are_independent():
    drawn = randomness.uniform(0, 0, POSITIONS, randomness.FRAMES, count=8)
    for one, next_one in pairwise(drawn.T):
        assert surprise(joint_counts(one, next_one)) < SURPRISING


def test_swapping_seed_and_epoch_gives_other_numbers():
    draw = {"position_B": np.arange(8), "stream": randomness.CROP}
    assert not np.any(randomness.uniform(seed=1, epoch=2, **draw) == randomness.uniform(seed=2, epoch=1, **draw))


def test_drawing_more_numbers_keeps_the_first_ones():
    few, many = (randomness.uniform(5, 2, np.arange(9), randomness.FRAMES, count=count) for count in (3, 8))
    np.testing.assert_array_equal(few, many[:, :3])


@given(SEEDS, st.integers(0, 10_000), COUNTS)
def test_an_order_holds_every_video_once(seed, epoch, count):
    order = randomness.permute(seed, epoch, np.arange(count), count)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


@given(SEEDS, COUNTS, st.data())
def test_a_part_of_an_order_equals_that_part_of_the_whole_order(seed, count, data):
    part = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    whole = randomness.permute(seed, 0, np.arange(count), count)
    np.testing.assert_array_equal(randomness.permute(seed, 0, part, count), whole[part])


@pytest.mark.parametrize("count", [2**40 + 1, 2**40])
def test_an_order_of_a_million_million_positions_takes_no_memory(count):
    position = np.array([0, 1, count - 1])
    order = randomness.permute(0, 0, position, count)
    assert len(set(order.tolist())) == 3
    assert order.min() >= 0
    assert order.max() < count


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_order_of_a_few_videos_is_equally_likely(count):
    seen = [tuple(randomness.permute(0, epoch, np.arange(count), count).tolist()) for epoch in range(3000)]
    assert surprise(np.array([seen.count(order) for order in permutations(range(count))])) < SURPRISING


@pytest.mark.parametrize("count", [100, 240_000])
def test_every_video_is_equally_likely_at_a_position(count):
    drawn = [randomness.permute(0, epoch, np.arange(3), count) for epoch in range(3000)]
    for at_position in np.array(drawn).T:
        assert surprise(np.bincount(at_position * 20 // count, minlength=20)) < SURPRISING


def test_neighbours_in_an_order_are_independent():
    count = 50_000
    order = randomness.permute(0, 0, np.arange(count), count) / count
    assert surprise(joint_counts(order[:-1], order[1:])) < SURPRISING


def test_orders_of_two_epochs_are_independent():
    count = 50_000
    first, second = (randomness.permute(0, epoch, np.arange(count), count) / count for epoch in (0, 1))
    assert surprise(joint_counts(first, second)) < SURPRISING


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_outside_the_epoch_is_an_assertion_error(position):
    with pytest.raises(AssertionError, match=r"outside range\(5\)"):
        randomness.permute(0, 0, np.array([position]), 5)


def joint_counts(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Count how often each pair of sixteenths occurs."""
    return np.bincount((one * 16).astype(int) * 16 + (other * 16).astype(int), minlength=256)
