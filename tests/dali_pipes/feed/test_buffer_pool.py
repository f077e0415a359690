"""Memory that is lent again: only when nobody can see it any more."""

import torch

from dali_pipes.feed.clip_maker import BufferPool

SHAPE = (4, 1000)


def test_memory_is_lent_again_when_its_tensor_is_gone():
    memory = BufferPool()
    tensor = memory.tensor(SHAPE, torch.float32).fill_(7)
    place = tensor.data_ptr()
    del tensor
    again = memory.tensor(SHAPE, torch.float32)
    assert again.data_ptr() == place
    assert (again == 7).all(), "the memory itself, and not some that happens to lie there"


def test_memory_that_a_view_or_an_array_still_shows_is_not_lent_again():
    memory = BufferPool()
    for keep in (lambda t: t[1:, ::2], lambda t: t.numpy()[2], lambda t: t.detach().permute(1, 0)):
        kept = keep(memory.tensor(SHAPE, torch.float32).fill_(7))
        memory.tensor(SHAPE, torch.float32).fill_(0)
        assert (kept == 7).all()


def test_another_size_or_type_gets_what_it_asked_for():
    memory = BufferPool()
    for shape, dtype in ((SHAPE, torch.float32), (SHAPE, torch.float16), ((5, 1000), torch.float32)):
        tensor = memory.tensor(shape, dtype)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
        del tensor


def test_what_an_evaluation_asks_for_can_be_written_by_other_threads():
    with torch.inference_mode():
        tensor = BufferPool().tensor(SHAPE, torch.float32)[:2]
    tensor.fill_(1)
