"""A loader that has read thousands of batches occupies no more than one that has begun."""

import os

import pytest

from tests.support.loading import build_loader, make_config, with_section, write_set
from tests.support.memory import resident_bytes

BATCHES, WARM = 5000, 500
GROWTH = 0.01  # of the process


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "codec"), [("pyav", "libx264"), ("dali_cpu", "libvpx-vp9")])
def test_five_thousand_batches_leak_no_memory_and_no_descriptor(tmp_path, decoder, codec):
    config = with_section(make_config(write_set(tmp_path, codec)), "data", decoder=decoder)
    config = with_section(with_section(config, "train", batch=2), "model", frames=2)
    (tmp_path / "3.mp4").unlink()  # unreadable videos must leak nothing either
    loader = build_loader(config, "train")
    batches = (batch for epoch in range(BATCHES) for batch in loader.epoch(epoch))
    for _, _ in zip(range(WARM), batches, strict=False):
        pass
    memory, descriptors = resident_bytes(), len(os.listdir("/proc/self/fd"))
    for _, _ in zip(range(BATCHES), batches, strict=False):
        pass
    assert resident_bytes() < (1 + GROWTH) * memory
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    assert [bad.row for bad in loader.unreadable] == [3]
    loader.close()
