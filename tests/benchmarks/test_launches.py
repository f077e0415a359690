"""Counted kernel launches: which operations count, which ones training saves, and who writes decoded frames."""

import pytest
import torch

from benchmarks.network import launches
from benchmarks.network.bytes import SHIFTS
from configs.schema import Model

SETTINGS = {"backbone": "resnet50", "width": 8, "num_classes": 3, "frames": 2}
CONVOLUTIONS, IN_STAGES, STAGES = 53, 52, 4  # each with a batch norm


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda x: x + 1, 1),
        (lambda x: x.view(6).t(), 0),
        (lambda x: x.add_(1), 1),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: torch._foreach_add_([x, x.clone()], 1), 2),  # the clone, and one for both
    ],
)
def test_each_operation_that_writes_counts_as_one_launch(operation, expected):
    x = torch.ones(2, 3)
    with launches.Launches() as seen:
        operation(x)
    assert seen.launches.total() == expected


def test_a_step_saves_the_casts_of_weights_and_the_counts_of_batch_norms():
    alone, together = (launches.count(Model(name="tsn", **SETTINGS), None, 2, 32, way) for way in (False, True))
    casts, counts = 2 * (IN_STAGES - STAGES), CONVOLUTIONS - 1
    assert alone.total() - together.total() == casts + counts
    assert together["_foreach_copy_"] == 2 * STAGES and together["_foreach_add_.Scalar"] == 1


def test_the_folded_shift_counts_as_the_kernels_that_it_launches():
    seen = launches.count(Model(**SETTINGS), SHIFTS["folded into conv1"], 2, 32, True)
    assert [seen[name] for name in launches.KERNELS] == [16 * kernels for kernels in launches.KERNELS.values()]


def test_decoded_frames_are_read_by_dali_where_threads_wrote_them(tmp_path):
    found = launches.copied_frames(tmp_path)
    assert found["copied_bytes"] == 0
    assert found["handed_bytes"] == found["clips"] * 8 * 352 * 256 * 3
