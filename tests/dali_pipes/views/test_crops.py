"""Crop boxes, against the output of MIT TSM and PaddleVideo."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.views import crops
from tests.support.paths import DATA

MIT = json.loads((DATA / "mit_crops.json").read_text())
PADDLE = json.loads((DATA / "paddle_data_golden.json").read_text())
NUM_POSITIONS = len(crops.POSITIONS)

sides = st.integers(16, 2000)
sizes = st.tuples(sides, sides).map(lambda size: np.array([size]))
targets = st.integers(16, 512)


def picture(name: str) -> np.ndarray:
    """Return `340x256`, as the references write a size, as [[340, 256]]."""
    return np.array([name.split("x")], np.int64)


def all_multiscale(size_12: np.ndarray, target: int) -> np.ndarray:
    """Return every multi-scale crop of a picture, [10, 13, 4]."""
    pair, position = np.indices((len(crops.PAIRS), NUM_POSITIONS)).reshape(2, -1)
    sizes_B2 = np.repeat(size_12, len(pair), axis=0)
    return crops.multiscale(sizes_B2, target, pair, position).reshape(len(crops.PAIRS), NUM_POSITIONS, 4)


@pytest.mark.parametrize("name", MIT["multiscale"])
def test_multiscale_sizes_are_mit_pairs_in_order(name):
    boxes = all_multiscale(picture(name), target=224)
    assert (boxes[:, 0, 2:] - boxes[:, 0, :2]).tolist() == MIT["multiscale"][name]["pairs_wh"]


@pytest.mark.parametrize("name", MIT["multiscale"])
def test_multiscale_positions_are_mit_offsets_in_order(name):
    reference = MIT["multiscale"][name]
    for (width, height), boxes in zip(reference["pairs_wh"], all_multiscale(picture(name), target=224), strict=True):
        assert boxes[:, :2].tolist() == reference["offsets13"][f"{width}x{height}"]


@pytest.mark.parametrize("case", PADDLE["multiscale"])
def test_multiscale_sizes_are_paddlevideo_pairs(case):
    name, target = case.split()[0], int(case.split()[1].removeprefix("target"))
    boxes = all_multiscale(picture(name), target)
    assert (boxes[:, 0, 2:] - boxes[:, 0, :2]).tolist() == PADDLE["multiscale"][case]["pairs"]


@pytest.mark.parametrize("case", PADDLE["multiscale"])
def test_multiscale_positions_follow_mit_so_paddlevideo_lies_less_than_a_pixel_a_quarter_further(case):
    name, target = case.split()[0], int(case.split()[1].removeprefix("target"))
    quarters = crops.POSITIONS if case.endswith("True") else crops.POSITIONS[:5]
    for boxes in all_multiscale(picture(name), target):
        width, height = boxes[0, 2:] - boxes[0, :2]
        ours = boxes[: len(quarters), :2]
        shortfall = (picture(name) - (width, height)) % 4 / 4 * quarters
        theirs = PADDLE["multiscale"][case]["offsets"][f"{width}x{height}"]
        assert {tuple(offset) for offset in (ours + shortfall).tolist()} == {tuple(offset) for offset in theirs}


@pytest.mark.parametrize("base, expected", [(253, 221), (254, 224), (259, 224), (260, 227)])
def test_a_multiscale_side_within_two_pixels_of_the_target_snaps_to_it(base, expected):
    seven_eighths = all_multiscale(np.array([[400, base]]), target=224)[3, 0]
    assert seven_eighths.tolist() == [0, 0, expected, expected]


def test_a_multiscale_crop_of_a_single_pixel_is_that_pixel():
    assert (all_multiscale(np.array([[1, 1]]), target=224) == [0, 0, 1, 1]).all()


def test_snapping_never_makes_a_crop_larger_than_the_picture():
    assert all_multiscale(np.array([[222, 222]]), target=224)[0, 0].tolist() == [0, 0, 222, 222]


@pytest.mark.parametrize("name", PADDLE["scale"])
def test_scaling_rounds_the_long_side_down_as_tsm_does_or_half_up_as_tsn_does_or_squashes_as_pp_tsm_does(name):
    assert crops.scale_short_side(picture(name), 256)[0].tolist() == PADDLE["scale"][name]["trunc_pil"]
    assert crops.scale_short_side(picture(name), 256, opencv=True)[0].tolist() == PADDLE["scale"][name]["round_cv2"]
    assert crops.scale_short_side(picture(name), 256, squashed=True)[0].tolist() == PADDLE["scale"][name]["fixed43"]


def test_a_picture_of_the_right_short_side_is_not_scaled():
    assert crops.scale_short_side(picture("455x256"), 256).tolist() == [[455, 256]]


def test_a_square_within_a_resized_box_lies_on_whole_pixels_of_it_and_reaches_its_edges():
    """A box of 192 x 224 pixels is resized to 256 x 256, of which 224 x 224 are taken: 33 places a side."""
    draws = np.array([(0.0, 0.0), (1 - 1e-9, 1 - 1e-9), (0.5, 0.25)])
    found = crops.within(np.tile((10, 20, 202, 244), (3, 1)), 256, 224, draws)
    size = np.array((192, 224)) * 224 / 256
    assert found[0].tolist() == [10, 20, 10 + size[0], 20 + size[1]]
    assert found[1].tolist() == [202 - size[0], 244 - size[1], 202, 244]
    np.testing.assert_allclose(found[2, :2], (10 + 16 * 192 / 256, 20 + 8 * 224 / 256))


@pytest.mark.parametrize("name", PADDLE["center"])
def test_the_centre_crop_rounds_half_to_even_as_tsm_does_or_down_as_tsn_does(name):
    assert crops.center(picture(name), 224)[0].tolist() == PADDLE["center"][name]["do_round=True"]
    assert crops.center(picture(name), 224, opencv=True)[0].tolist() == PADDLE["center"][name]["do_round=False"]


@pytest.mark.parametrize("name", ["340x256", "455x256", "256x256"])
def test_three_crops_of_a_landscape_are_mit_full_resolution(name):
    assert crops.three(picture(name), 256)[0].tolist() == MIT["fullres_256_boxes_left_right_center"][name]


@pytest.mark.parametrize("name", ["340x256", "341x256", "455x256", "343x257"])
def test_three_crops_of_a_landscape_are_paddlevideo_full_resolution(name):
    assert crops.three(picture(name), 224)[0].tolist() == PADDLE["fullres"][name]


def test_three_crops_of_a_portrait_run_along_its_height_where_mit_repeats_the_middle():
    ours = crops.three(picture("256x455"), 256)[0]
    landscape = crops.three(picture("455x256"), 256)[0]
    assert ours.tolist() == landscape[:, [1, 0, 3, 2]].tolist()
    assert ours[2].tolist() == MIT["fullres_256_boxes_left_right_center"]["256x455"][2]


def test_three_crops_of_a_square_run_along_its_width():
    assert crops.three(picture("256x256"), 224)[0, :, :2].tolist() == [[0, 16], [32, 16], [16, 16]]


@pytest.mark.parametrize("name", PADDLE["tencrop"])
def test_ten_crops_are_paddlevideo_five_each_twice(name):
    boxes = crops.ten(picture(name), 224)[0]
    assert boxes[0::2].tolist() == PADDLE["tencrop"][name]
    assert boxes[1::2].tolist() == PADDLE["tencrop"][name]


@pytest.mark.parametrize("name", [name for name, case in MIT["multiscale"].items() if case["ten_crop5"]])
def test_ten_crops_have_mit_offsets(name):
    assert crops.ten(picture(name), 224)[0, ::2, :2].tolist() == MIT["multiscale"][name]["ten_crop5"]


def test_a_crop_anywhere_reaches_every_whole_pixel_and_no_other():
    draw = np.stack(np.meshgrid(*[np.arange(0, 1, 1 / 60)] * 2), axis=-1).reshape(-1, 2)
    boxes = crops.anywhere(np.repeat(picture("20x18"), len(draw), axis=0), 16, draw)
    assert {tuple(box) for box in boxes.tolist()} == {(x, y, x + 16, y + 16) for x in range(5) for y in range(3)}


@pytest.mark.parametrize("name, side", [("100x60", 60), ("60x100", 60), ("100x80", 64)])
def test_a_square_crop_of_a_small_picture_is_as_large_as_fits(name, side):
    for box in (crops.center(picture(name), 64), crops.anywhere(picture(name), 64, np.array([[0.5, 0.5]]))):
        assert (box[0, 2:] - box[0, :2]).tolist() == [side, side]


@given(sizes, targets)
def test_multiscale_crops_lie_inside_and_keep_most_of_the_short_side(size, target):
    boxes = all_multiscale(size, target).reshape(-1, 4)
    assert_inside(boxes, size)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= int(size.min() * 0.66) - 2  # a side may snap down by two pixels


@given(sizes, targets, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_square_crops_lie_inside(size, target, x, y):
    for box in (crops.center(size, target), crops.anywhere(size, target, np.array([[x, y]]))):
        assert_inside(box, size)
        assert (box[0, 2:] - box[0, :2]).tolist() == [min(target, size.min())] * 2


@given(sizes, st.integers(16, 512), st.data())
def test_evaluation_crops_carried_back_lie_inside_the_stored_frame(size, short_side, data):
    side = data.draw(st.integers(16, short_side))
    scaled = crops.scale_short_side(size, short_side)
    assert scaled.min() == short_side
    for boxes in (crops.center(scaled, side)[:, None], crops.three(scaled, side), crops.ten(scaled, side)):
        assert_inside(boxes[0], scaled)
        assert_inside(crops.to_stored(boxes, scaled, size)[0], size)


@given(sizes, sizes)
def test_the_whole_scaled_picture_is_the_whole_stored_frame(stored, scaled):
    whole = np.array([[[0, 0, *scaled[0]]]])
    assert crops.to_stored(whole, scaled, stored).tolist() == [[[0, 0, *stored[0]]]]


def test_a_box_is_carried_back_by_each_side_own_ratio():
    box = crops.to_stored(np.array([[[100, 16, 300, 240]]]), picture("455x256"), picture("1280x720"))
    np.testing.assert_allclose(box, [[[100 * 1280 / 455, 45, 300 * 1280 / 455, 675]]], rtol=1e-7)


def assert_inside(box_N4: np.ndarray, size_12: np.ndarray):
    assert np.all(box_N4[:, :2] >= 0)
    assert np.all(box_N4[:, :2] < box_N4[:, 2:])
    assert np.all(box_N4[:, 2:] <= size_12)
