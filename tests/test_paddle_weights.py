"""PaddleVideo's weights: read without Paddle, and the same network although ours shifts the other way round."""

import paddle_files
import pytest
import torch
from detfill import fill_by_name
from torchvision.models.resnet import Bottleneck

from configs.schema import Model
from models import build_model, load_weights
from models.backbones import SlimResNet

ROUNDING = 1e-4  # of logits that spread by 1 to 5, between two orders of summation in fp32


def network(layers=(3, 4, 6, 3), width=64, classes=11):
    """A bottleneck ResNet with weights drawn from their names."""
    net = SlimResNet(Bottleneck, list(layers), width, classes).eval()
    fill_by_name(net)
    return net


def clips(frames):
    return torch.randn(2, frames, 3, 64, 64, generator=torch.Generator().manual_seed(frames))


def ours(**changes):
    return build_model(Model(**({"num_classes": 11} | changes))).eval()


@torch.no_grad()
@pytest.mark.parametrize("frames, protocol", [(8, 4), (16, 2)])
def test_a_tsm_of_paddlevideo_gives_its_logits_here(tmp_path, frames, protocol):
    net = network()
    path = paddle_files.write(tmp_path / "TSM.pdparams", paddle_files.paddle_state(net), protocol)
    model = ours(frames=frames, shift_div=frames)
    report = load_weights(model, path)
    expected = paddle_files.mirrored_tsm_logits(net, clips(frames))
    torch.testing.assert_close(model(clips(frames)), expected, atol=ROUNDING, rtol=0)
    assert expected.std() > 0.1
    assert "fc.weight transposed; folds of channels swapped in 122 tensors, exact if it was trained with" in (
        report.summary()
    )
