"""PaddleVideo's weights: read without Paddle, with the same logits although its shift has the other direction."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from torchvision.models.resnet import Bottleneck

from configs.schema import Model
from models import CheckpointError, build_model, load_pretrained, load_weights, read_file
from models.resnets import SlimResNet
from models.weights.formats import recognise
from tests.support.oracles import paddle_files
from tests.support.oracles.weights import fill_by_name
from tests.support.paths import DATA

DATA = DATA / "paddle"
ROUNDING = 1e-4  # for logits that spread by 1 to 5, between two orders of summation in fp32
SLIM = {"width": 16, "frames": 8}


def network(layers=(3, 4, 6, 3), width=64, classes=11):
    """Return a bottleneck ResNet with weights drawn from their names."""
    net = SlimResNet(Bottleneck, list(layers), width, classes).eval()
    fill_by_name(net)
    return net


def clips(frames, size=64):
    return torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(frames))


def ours(**changes):
    return build_model(Model(**({"num_classes": 11} | changes))).eval()


def slim_file(folder, protocol=4, **changes):
    """Return a slim network and its file."""
    net = network(**({"width": 16} | changes))
    return net, paddle_files.write(folder / "net.pdparams", paddle_files.paddle_state(net), protocol)


@torch.no_grad()
def assert_same_logits(model, expected, frames):
    torch.testing.assert_close(model(clips(frames)), expected, atol=ROUNDING, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize("frames, protocol, width", [(8, 4, 64), (16, 2, 16)])
def test_a_tsm_of_paddlevideo_gives_its_logits_here(tmp_path, frames, protocol, width):
    net = network(width=width)
    path = paddle_files.write(tmp_path / "TSM.pdparams", paddle_files.paddle_state(net), protocol)
    model = ours(frames=frames, shift_div=frames, width=width)
    report = load_weights(model, path)
    assert_same_logits(model, paddle_files.mirrored_tsm_logits(net, clips(frames)), frames)
    assert report.summary() == (
        f"267 tensors loaded from {path} (PaddleVideo); fc.weight transposed; "
        f"folds of channels swapped in 122 tensors, exact if trained with {frames} frames (model.shift_div)"
    )


def test_a_tsn_of_paddlevideo_gives_its_logits_here(tmp_path):
    net, path = slim_file(tmp_path)
    model = ours(name="tsn", width=16, frames=3)
    remarks = ["fc.weight transposed", "taken as those of a TSN, which the file does not tell"]
    assert load_weights(model, path).converted == remarks
    assert_same_logits(model, paddle_files.tsn_logits(net, clips(5)), 5)


@torch.no_grad()
def test_another_shift_div_than_the_one_trained_with_gives_other_logits(tmp_path):
    net, path = slim_file(tmp_path)
    model = ours(**SLIM | {"shift_div": 4})
    report = load_weights(model, path)
    assert report.converted[1].endswith("exact if trained with 4 frames (model.shift_div), though model.frames is 8")
    assert (model(clips(8)) - paddle_files.mirrored_tsm_logits(net, clips(8))).abs().max() > 100 * ROUNDING


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_is_read(tmp_path, protocol):
    net, path = slim_file(tmp_path, protocol)
    model = ours(**SLIM)
    load_weights(model, path)
    assert_same_logits(model, paddle_files.mirrored_tsm_logits(net, clips(8)), 8)


def test_a_deep_tsm_of_paddlevideo_needs_a_model_that_shifts_in_every_block(tmp_path):
    net, path = slim_file(tmp_path, layers=(3, 4, 23, 3))
    with pytest.raises(CheckpointError, match=r"with the shift in 33 layers, the model shifts in 18; .*shift_every"):
        load_weights(ours(**SLIM, backbone="resnet101"), path)
    model = ours(**SLIM, backbone="resnet101", shift_every=1)
    load_weights(model, path)
    assert_same_logits(model, paddle_files.mirrored_tsm_logits(net, clips(8)), 8)


@torch.no_grad()
def test_a_causal_tsm_keeps_the_channels_that_paddlevideo_looks_back_through(tmp_path):
    net, path = slim_file(tmp_path)
    model = ours(**SLIM, causal=True)
    load_pretrained(model, str(path))
    assert torch.equal(model.layer1[0].conv1.weight, net.layer1[0].conv1.weight)


def test_folds_of_unequal_size_are_refused(tmp_path):
    _, path = slim_file(tmp_path)
    with pytest.raises(CheckpointError, match=r"net\.pdparams: of 128 channels PaddleVideo shifts 42 one way and 43"):
        load_weights(ours(**SLIM | {"shift_div": 3}), path)


@pytest.mark.parametrize("head", ["", "head."])
def test_paddles_imagenet_weights_start_a_training(tmp_path, head):
    net = network(width=16, classes=1000)
    state = paddle_files.paddle_state(net, prefix="", head=head)
    model = ours(name="tsn", width=16)
    report = load_pretrained(model, str(paddle_files.write(tmp_path / "ResNet50_pretrain.pdparams", state)))
    assert torch.equal(model.layer4[2].bn3.running_var, net.layer4[2].bn3.running_var)
    assert list(report.skipped) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("kind", ["plain", "nested"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_that_paddle_itself_wrote_are_read(kind, protocol):
    """They were written by paddle.save of Paddle 3.3.1; nested ones hold {"model": state, "epoch": 3, "lr": 0.1}."""
    path = DATA / f"{kind}{protocol}.pdparams"
    with warnings.catch_warnings(action="error"):  # such as torch's warning about read-only arrays
        found = recognise(read_file(path), path)
    numbers = torch.arange(6.0).reshape(2, 3)
    expected = {"a": numbers, "half": numbers.half(), "brain": numbers.bfloat16(), "count": torch.tensor([3])}
    torch.testing.assert_close(found.weights, expected, rtol=0, atol=0)


def test_arrays_that_were_cut_are_joined(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    state = {"a@@.0": numbers[:5], "a@@.1": numbers[5:], "b": numbers}
    state["UnpackBigParamInfor@@"] = {"a": {"OriginShape": (3, 4), "slices": ["a@@.0", "a@@.1"]}}
    (tmp_path / "big.pdparams").write_bytes(pickle.dumps(state, protocol=2))
    content = read_file(tmp_path / "big.pdparams")
    assert list(content) == ["b", "a"]
    assert np.array_equal(content["a"], numbers.reshape(3, 4))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3).T, np.arange(4, dtype=">f4"), np.array(3.0)],
    ids=["columns", "big-endian", "scalar"],
)
def test_arrays_of_any_layout_are_read(tmp_path, array, protocol):
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps({"a": array}, protocol))
    found = recognise(read_file(tmp_path / "net.pdparams"), tmp_path)
    assert np.array_equal(found.weights["a"].numpy(), array)
