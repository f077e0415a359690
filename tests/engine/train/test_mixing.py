"""Mixed clips: their partners, their proportions, and the weight of unreadable clips."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dali_pipes.batch import Batch
from engine import runtime
from engine.train import step as targets
from tests.support import tiny

WAYS = [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}]
B, T, SIZE, K = 4, 2, 12, 3


def batch_of(labels, dtype=torch.float32):
    """Return clips whose pixels are all the number of their row, in the memory layout of the loader."""
    value_B = torch.arange(len(labels), dtype=dtype) * 8 + 1
    clips_BVTHWC = value_B.view(-1, 1, 1, 1, 1, 1).expand(-1, 1, T, SIZE, SIZE, 3).contiguous()
    label_B = torch.tensor(labels)
    return Batch(clips_BVTHWC.permute(0, 1, 2, 5, 3, 4), label_B, torch.arange(len(labels)))


def mixed(batch, way, step=0):
    mixture = targets.Mixture(way.get("mixup", 0.0), way.get("cutmix", 0.0), K)
    runtime.seed_step(0, step, rank=0)
    return mixture(batch)


def own_part(clips_BTCHW):
    """Return [B, T, C, H, W]: the share of the row itself in each pixel; the rest is of the row before it."""
    own_B = batch_of([0] * B).clips_BTCHW
    other_B = own_B.roll(1, 0)
    return (clips_BTCHW - other_B) / (own_B - other_B)


@pytest.mark.parametrize("step", range(3))
def test_mixup_takes_one_proportion_for_all_clips_and_frames(step):
    mixed_batch, share_BK = mixed(batch_of([0, 1, 2, 0]), WAYS[0], step)
    part = own_part(mixed_batch.clips_BTCHW)
    proportion = part.mean()
    torch.testing.assert_close(part, torch.full_like(part, proportion.item()), rtol=0, atol=1e-5)
    own, other = torch.eye(K)[[0, 1, 2, 0]], torch.eye(K)[[0, 0, 1, 2]]
    torch.testing.assert_close(share_BK, proportion * own + (1 - proportion) * other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", range(3))
def test_cutmix_takes_one_box_for_all_clips_and_frames_and_its_area_for_the_shares(step):
    mixed_batch, share_BK = mixed(batch_of([0, 1, 2, 0]), WAYS[1], step)
    part = own_part(mixed_batch.clips_BTCHW)
    inside_HW = part[0, 0, 0] == 0
    assert torch.equal(part, (~inside_HW).float().expand_as(part))
    rows, columns = inside_HW.any(1), inside_HW.any(0)
    assert torch.equal(inside_HW, rows[:, None] & columns)  # a box
    assert share_BK[1, 1].item() == pytest.approx(1 - inside_HW.float().mean().item())
    assert share_BK[1, 0].item() == pytest.approx(inside_HW.float().mean().item())


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_clips_are_mixed_with_clips_of_other_videos(repeats):
    """There are six clips; `index_B` stays with its clip."""
    videos = [row // repeats for row in range(6)]
    batch = batch_of([0] * 6)
    mixture = targets.Mixture(0.2, 0.0, K, repeats)
    order = mixture._apart(batch).index_B.tolist()
    assert sorted(order) == list(range(6))
    assert all(videos[one] != videos[other] for one, other in zip(order, order[1:] + order[:1], strict=True))
    runtime.seed_step(0, 0, rank=0)
    mixed_batch, _ = mixture(batch)
    assert mixed_batch.index_B.tolist() == order
    own_B = batch.clips_BTCHW[order]
    part = (mixed_batch.clips_BTCHW - own_B.roll(1, 0)) / (own_B - own_B.roll(1, 0))
    torch.testing.assert_close(part, part.mean().expand_as(part), rtol=0, atol=1e-5)


def test_repeated_clips_are_reordered_without_a_copy_from_the_host_for_which_it_would_wait():
    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            result = operator(*args, **(kwargs or {}))
            devices.update(leaf.device.type for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor))
            return result

    devices, mixture = set(), targets.Mixture(0.2, 0.0, K, 2)
    with FakeTensorMode():
        with torch.device("cuda"):
            batch = Batch(torch.empty(6, 1, T, 3, SIZE, SIZE), torch.empty(6).long(), torch.empty(6).long())
        with Copies():
            mixture._apart(batch)
    assert devices == {"cuda"}


def test_each_batch_uses_either_mixup_or_cutmix():
    parts = [own_part(mixed(batch_of([0, 1, 2, 0]), WAYS[2], step)[0].clips_BTCHW) for step in range(20)]
    boxes = [bool(((part == 0) | (part == 1)).all()) for part in parts]
    assert 3 < sum(boxes) < 17


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_mixing_depends_only_on_seed_step_and_rank(way):
    batch = batch_of([0, 1, 2, 0])
    torch.testing.assert_close(mixed(batch, way, step=5)[1], mixed(batch, way, step=5)[1], rtol=0, atol=0)
    assert not torch.equal(mixed(batch, way, step=5)[1], mixed(batch, way, step=6)[1])


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_clips_keep_their_memory_layout_and_type_and_the_given_batch_its_content(way, dtype):
    batch = batch_of([0, 1, 2, 0], dtype)
    before = batch.clips_BVTCHW.clone()
    mixed_batch, _ = mixed(batch, way)
    assert torch.equal(batch.clips_BVTCHW, before) and batch.label_B.tolist() == [0, 1, 2, 0]
    clips_BTCHW = mixed_batch.clips_BTCHW
    assert (clips_BTCHW.shape, clips_BTCHW.dtype, type(clips_BTCHW)) == ((B, T, 3, SIZE, SIZE), dtype, torch.Tensor)
    assert clips_BTCHW.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("labels", [[0, -1, 2, 1], [-1, -1, 2, 2], [-1, -1, -1, -1]])
def test_every_readable_clip_has_a_total_weight_of_one_over_the_batch(way, labels):
    for step in range(5):
        mixed_batch, share_BK = mixed(batch_of(labels), way, step)
        weights_K = torch.tensor([labels.count(label) for label in range(K)]).float()
        torch.testing.assert_close(share_BK.sum(0), weights_K)
        own, other = (torch.tensor(labels) >= 0).float(), (torch.tensor(labels) >= 0).float().roll(1)
        proportion = own_part(mixed_batch.clips_BTCHW).mean((1, 2, 3, 4))
        torch.testing.assert_close(share_BK.sum(1), proportion * own + (1 - proportion) * other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_mixed_clip_counts_for_the_label_that_has_most_of_it(way):
    labels = [0, -1, 2, 1]
    for step in range(10):
        mixed_batch, _ = mixed(batch_of(labels), way, step)
        own = own_part(mixed_batch.clips_BTCHW).mean() >= 0.5
        assert mixed_batch.label_B.tolist() == (labels if own else labels[-1:] + labels[:-1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_whole_shares_is_that_of_labels(smoothing):
    torch.manual_seed(0)
    logits_BK = torch.randn(5, K, requires_grad=True)
    label_B = torch.tensor([0, -1, 2, 1, -1])
    losses = (
        targets.label_loss(logits_BK, label_B, smoothing),
        targets.share_loss(logits_BK, targets.shares(label_B, K), smoothing),
    )
    gradients = [torch.autograd.grad(loss, logits_BK)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert gradients[1][[1, 4]].abs().max() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixed_clip_is_the_mean_of_its_labels_losses_by_their_shares(smoothing):
    torch.manual_seed(0)
    logits_BK = torch.randn(1, K)
    mine, theirs = (targets.label_loss(logits_BK, torch.tensor([label]), smoothing) for label in (0, 2))
    share_BK = torch.tensor([[0.7, 0.0, 0.3]])
    torch.testing.assert_close(targets.share_loss(logits_BK, share_BK, smoothing), 0.7 * mine + 0.3 * theirs)


@pytest.mark.parametrize("way", [{}, *WAYS], ids=str)
def test_a_run_mixes_as_its_settings_say(way):
    mix, loss = targets.make_mix_and_loss(tiny.config(train=way, optim={"label_smoothing": 0.2}))
    assert isinstance(mix, targets.Mixture) == bool(way)
    assert loss.func is (targets.share_loss if way else targets.label_loss)
    assert loss.keywords == {"smoothing": 0.2}
