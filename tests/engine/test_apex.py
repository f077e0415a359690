"""apex: needless or impossible requests, and a network with a stand-in for its kernels."""

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from configs import ConfigError
from configs.schema import Optim
from engine import apex
from engine.train import optim
from models import build_model
from tests.support import tiny


class BatchNorm2d_NHWC(nn.BatchNorm2d):
    """A stand-in, computed by torch, for apex's norm over x_NHWC and a summand before the ReLU, both contiguous."""

    def __init__(self, num_features, fuse_relu=False):
        super().__init__(num_features)
        self.fuse_relu = fuse_relu

    def forward(self, x_NHWC, z_NHWC=None):
        assert x_NHWC.is_contiguous() and (z_NHWC is None or z_NHWC.is_contiguous())
        y_NHWC = super().forward(x_NHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if z_NHWC is not None:
            assert self.fuse_relu
            return F.relu(y_NHWC + z_NHWC)
        return F.relu(y_NHWC) if self.fuse_relu else y_NHWC


@pytest.fixture
def groupbn(monkeypatch):
    stand_in = SimpleNamespace(BatchNorm2d_NHWC=BatchNorm2d_NHWC)
    monkeypatch.setitem(sys.modules, "apex.contrib.groupbn.batch_norm", stand_in)


def network(backbone):
    torch.manual_seed(0)
    model = build_model(tiny.config(model={"backbone": backbone, "dropout": 0.0}).model)
    return model.to(memory_format=torch.channels_last)


def clips():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, 16, 16, 3, generator=generator).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_fused_norms_give_the_same_outputs_gradients_and_statistics(groupbn, backbone):
    plain, fused = network(backbone), network(backbone)
    apex.fuse_batchnorms(fused)
    assert not any(isinstance(module, nn.ReLU) for module in fused.modules())
    for model in (plain, fused):
        model(clips()).square().sum().backward()
    for (name, expected), (other, found) in zip(plain.named_parameters(), fused.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.state_dict(), plain.state_dict())
    torch.testing.assert_close(fused.eval()(clips()), plain.eval()(clips()))


def test_fused_norms_load_and_copy_as_plain_ones(groupbn):
    plain, fused = network("resnet18"), network("resnet18")
    nn.init.normal_(plain.layer1[0].bn1.weight)
    apex.fuse_batchnorms(fused)
    fused.load_state_dict(plain.state_dict())
    expected = plain.eval()(clips())
    torch.testing.assert_close(fused.eval()(clips()), expected)
    torch.testing.assert_close(copy.deepcopy(fused)(clips()), expected)


def test_every_parameter_of_a_fused_network_is_in_one_group(groupbn):
    fused = network("resnet18")
    apex.fuse_batchnorms(fused)
    grouped = [p for group in optim.parameter_groups(fused, Optim(lr=0.1)) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, fused.parameters()))


def test_apexs_sgd_gets_the_groups_and_the_settings(monkeypatch):
    monkeypatch.setitem(sys.modules, "amp_C", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "apex.optimizers", SimpleNamespace(FusedSGD=torch.optim.SGD))
    made = optim.make_optimizer(network("resnet18"), Optim(lr=0.1, impl="apex", nesterov=True, weight_decay=0.5))
    assert {group["nesterov"] for group in made.param_groups} == {True}
    assert {group["weight_decay"] for group in made.param_groups} == {0.5, 0}


def test_the_unrelated_apex_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", SimpleNamespace(__name__="apex"))
    with pytest.raises(ConfigError, match=r"optim\.impl: .*another project.*APEX_CUDA_EXT=1"):
        optim.make_optimizer(network("resnet18"), Optim(lr=0.1, impl="apex"))
    with pytest.raises(ConfigError, match=r"runtime\.batchnorm: .*another project.*APEX_BNP=1"):
        apex.fuse_batchnorms(network("resnet18"))


def test_apex_is_refused_before_anything_is_built_where_it_cannot_compute():
    with pytest.raises(ConfigError) as error:
        tiny.config(optim={"impl": "apex"}, runtime={"batchnorm": "apex"})
    assert str(error.value).splitlines() == [
        "optim.impl: apex computes on a GPU; use torch",
        "runtime.batchnorm: apex needs runtime.device=cuda, runtime.precision=fp16; or use torch",
    ]


@pytest.mark.gpu
def test_apexs_own_norms_agree_with_torchs():
    pytest.importorskip("bnp", reason="NVIDIA's apex is not built")
    plain, fused = network("resnet50").cuda(), network("resnet50").cuda()
    apex.fuse_batchnorms(fused)
    with torch.autocast("cuda", torch.float16):
        expected, found = plain(clips().cuda().half()), fused(clips().cuda().half())
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)  # sums of fp16 products in another order
