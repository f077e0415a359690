"""The buffer pool: memory is reused only when no tensor, array or view refers to it."""

from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.feed.buffers import BufferPool, rounded

SHAPE = (4, 1000)


def test_memory_is_reused_after_its_tensor_is_deleted():
    memory = BufferPool()
    tensor = memory.tensor(SHAPE, torch.float32).fill_(7)
    place = tensor.data_ptr()
    del tensor
    again = memory.tensor(SHAPE, torch.float32)
    assert again.data_ptr() == place
    assert (again == 7).all(), "the memory itself, and not some that happens to lie there"


def test_memory_with_a_live_view_or_array_is_not_reused():
    memory = BufferPool()
    for keep in (lambda t: t[1:, ::2], lambda t: t.numpy()[2], lambda t: t.detach().permute(1, 0)):
        kept = keep(memory.tensor(SHAPE, torch.float32).fill_(7))
        memory.tensor(SHAPE, torch.float32).fill_(0)
        assert (kept == 7).all()


def test_the_pool_gives_the_shape_and_type_asked_for():
    memory = BufferPool()
    for shape, dtype in ((SHAPE, torch.float32), (SHAPE, torch.float16), ((5, 1000), torch.float32)):
        tensor = memory.tensor(shape, dtype)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
        del tensor


def test_tensors_made_in_inference_mode_can_be_written_outside_it():
    with torch.inference_mode():
        tensor = BufferPool().tensor(SHAPE, torch.float32)[:2]
    tensor.fill_(1)


def test_an_array_with_a_live_view_of_a_view_is_not_reused():
    memory = BufferPool()
    kept = memory.array((3, 40, 50, 3))[1][:, 2:]
    kept[:] = 7
    memory.array((3, 40, 50, 3))[:] = 0
    assert (kept == 7).all()


@given(st.integers(1, 1 << 24))
def test_sizes_are_rounded_up_by_a_quarter_at_most(count):
    assert count <= rounded(count) <= 1.25 * count
    assert rounded(rounded(count)) == rounded(count)


def test_threads_can_use_one_pool_at_once():
    memory = BufferPool()

    def use(value: int) -> bool:
        array = memory.array((1000,))
        array[:] = value
        return bool((array == value).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, [value % 251 for value in range(2000)]))
