"""TSM and TSN as whole networks: MIT's logits, torchvision's names, shapes and costs."""

import json
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from configs import ConfigError
from configs.batches import STRIDE
from configs.schema import Model
from models import build_model, describe
from models.cost import count_macs, count_parameters
from models.shift.conv import FORMS, ShiftedConv2d, shift_then_conv
from models.shift.forms import temporal_shift
from tests.support.oracles.weights import fill_by_name, make_clips
from tests.support.paths import DATA

ROUNDING = 1e-4  # for logits that spread by 1 to 5, between two orders of summation in fp32
SENSITIVITY = json.loads((DATA / "mit_sensitivity.json").read_text())
BACKBONES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet50_vd", "mobilenet_v2"]


def assert_close(actual, expected, rtol=0.0):
    torch.testing.assert_close(actual, expected, atol=ROUNDING, rtol=rtol)


def small(**changes):
    """Return a slim network of 4 frames with weights that make its logits depend on all inputs."""
    settings = {"backbone": "resnet18", "width": 8, "num_classes": 5, "frames": 4, "fc_std": 0.5} | changes
    torch.manual_seed(0)
    return build_model(Model(**settings)).eval()


def skeleton(**changes):
    """Return a network of shapes alone, without memory."""
    with torch.device("meta"):
        return build_model(Model(**({"num_classes": 7} | changes)))


def small_clips(*sizes):
    return torch.randn(*sizes, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def as_fed(clips_BTCHW):
    """Return the same clips in NHWC memory, as the loader gives them."""
    return clips_BTCHW.movedim(2, -1).contiguous().movedim(-1, 2)


def mit_network(name):
    model = build_model(Model(name=name, num_classes=400)).eval().to(memory_format=torch.channels_last)
    fill_by_name(model)
    return model


@pytest.fixture(scope="module")
def mit_tsm():
    return mit_network("tsm")


@pytest.fixture(scope="module")
def mit_clips():
    return as_fed(make_clips(int(np.load(DATA / "mit_tsm_r50.npz")["input_seed"]), clips=2, frames=8))


def test_reference_clips_are_the_ones_that_mit_saw(mit_clips):
    seen = np.load(DATA / "mit_tsm_r50.npz")["input_head"]
    assert np.array_equal(mit_clips.flatten()[: len(seen)].numpy(), seen)


@torch.no_grad()
def test_tsm_gives_mits_logits(mit_tsm, mit_clips):
    expected = torch.from_numpy(np.load(DATA / "mit_tsm_r50.npz")["logits"])
    assert_close(mit_tsm(mit_clips), expected)


@torch.no_grad()
def test_tsn_gives_mits_logits():
    reference = np.load(DATA / "mit_tsn_r50.npz")
    clips_BTCHW = as_fed(make_clips(int(reference["input_seed"]), clips=2, frames=3))
    assert_close(mit_network("tsn")(clips_BTCHW), torch.from_numpy(reference["logits"]))


def no_shift(x_NCHW, frames, after, before):
    return x_NCHW


def mirrored(x_NCHW, frames, after, before):
    """Shift as PaddleVideo does, which is MIT's shift of a reversed clip."""
    x_BTCHW = x_NCHW.unflatten(0, (-1, frames)).flip(1)
    shifted_NCHW = temporal_shift(x_BTCHW.flatten(0, 1), frames, after, before)
    return shifted_NCHW.unflatten(0, (-1, frames)).flip(1).flatten(0, 1)


@torch.no_grad()
@pytest.mark.parametrize("mistake, name", [(no_shift, "no_shift"), (mirrored, "reversed")])
def test_a_wrong_shift_changes_the_logits_as_much_as_in_mits_code(mit_tsm, mit_clips, monkeypatch, mistake, name):
    for module in mit_tsm.modules():
        if isinstance(module, ShiftedConv2d):
            monkeypatch.setattr(module, "form", partial(shift_then_conv, mistake))
    expected = torch.from_numpy(np.load(DATA / "mit_tsm_r50.npz")["logits"])
    distance = (mit_tsm(mit_clips) - expected).abs().max().item()
    assert distance == pytest.approx(SENSITIVITY[name][0], abs=2 * ROUNDING)


@pytest.mark.parametrize("name", ["tsm", "tsn"])
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if not name.endswith("_vd")])  # Paddle's
def test_state_dict_is_torchvisions(backbone, name):
    ours = skeleton(name=name, backbone=backbone).state_dict()
    with torch.device("meta"):
        theirs = getattr(torchvision.models, backbone)(num_classes=7).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_a_tsn_of_one_frame_is_torchvisions_network(backbone):
    model = build_model(Model(name="tsn", backbone=backbone, num_classes=7, frames=1)).eval()
    theirs = getattr(torchvision.models, backbone)(num_classes=7).eval()
    theirs.load_state_dict(model.state_dict())
    clips_BTCHW = small_clips(2, 1)
    assert_close(model(clips_BTCHW), theirs(clips_BTCHW[:, 0]))


# MIT's rule: every block of a ResNet, every second one of a deep ResNet; MobileNetV2's expanding residual blocks.
@pytest.mark.parametrize(
    "backbone, count", [("resnet18", 8), ("resnet34", 16), ("resnet50", 16), ("resnet101", 2 + 2 + 12 + 2)]
)
def test_shifts_are_on_the_first_convolution_of_blocks(backbone, count):
    model = skeleton(backbone=backbone)
    shifted = [name for name, part in model.named_modules() if isinstance(part, ShiftedConv2d)]
    assert len(shifted) == count
    assert all(name.endswith(".conv1") for name in shifted)


def test_a_deep_network_shifts_in_every_second_block():
    model = skeleton(backbone="resnet101")
    assert [isinstance(block.conv1, ShiftedConv2d) for block in model.layer2] == [True, False, True, False]


def test_mobilenet_shifts_in_its_ten_residual_blocks():
    model = skeleton(backbone="mobilenet_v2")
    shifted = {name: part for name, part in model.named_modules() if isinstance(part, ShiftedConv2d)}
    assert [conv.in_channels for conv in shifted.values()] == [24, 32, 32, 64, 64, 64, 96, 96, 160, 160]
    # MIT's online demo numbers its blocks from the first after the stem; torchvision counts the stem.
    blocks_of_the_demo = [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert list(shifted) == [f"features.{1 + number}.conv.0.0" for number in blocks_of_the_demo]


def test_tsn_shifts_nowhere():
    model = skeleton(name="tsn")
    assert not any(isinstance(part, ShiftedConv2d) for part in model.modules())


def test_shift_div_sets_the_fold():
    conv = small(shift_div=4).layer2[0].conv1
    assert (conv.after, conv.before) == (2, 2)


def test_a_shift_of_no_channels_is_refused():
    with pytest.raises(ConfigError, match=r"model\.shift_div: 1/16 of 8 channels is less than one, .* use at most 8"):
        small(shift_div=16)


@torch.no_grad()
def test_order_of_frames_matters_to_tsm_and_not_to_tsn():
    clips_BTCHW = small_clips(2, 4)
    tsm, tsn = small(), small(name="tsn")
    assert not torch.allclose(tsm(clips_BTCHW), tsm(clips_BTCHW.flip(1)), atol=1e-3)
    assert_close(tsn(clips_BTCHW), tsn(clips_BTCHW.flip(1)))


@torch.no_grad()
@pytest.mark.parametrize("consensus", ["logits", "features"])
def test_views_of_videos_are_scored_one_by_one(consensus):
    model, clips_BVTCHW = small(consensus=consensus), small_clips(2, 3, 4)
    expected = torch.stack([model(clips_BTCHW) for clips_BTCHW in clips_BVTCHW.unbind(1)], 1)
    assert_close(model(clips_BVTCHW), expected)


@torch.no_grad()
def test_tsn_takes_any_number_of_frames():
    model, clips_BTCHW = small(name="tsn"), small_clips(2, 25)
    logits_of_frames_NK = model(clips_BTCHW.flatten(0, 1).unsqueeze(1))
    assert_close(model(clips_BTCHW), logits_of_frames_NK.unflatten(0, (2, 25)).mean(1))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_frame_has_one_position_in_the_last_features_up_to_the_stride(backbone):
    model = build_model(Model(name="tsn", backbone=backbone, width=8, num_classes=5, frames=1, pretrained="none"))
    model(torch.zeros(1, 1, 3, STRIDE + 1, STRIDE + 1))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.zeros(1, 1, 3, STRIDE, STRIDE))


def test_tsm_names_the_frames_it_was_built_for():
    with pytest.raises(ValueError, match=r"clips have 25 frames, but this TSM shifts over 4"):
        small()(small_clips(1, 25))


def test_a_single_picture_is_refused():
    with pytest.raises(ValueError, match="neither B T C H W nor B V T C H W"):
        small()(torch.zeros(4, 3, 32, 32))


def test_the_shift_is_not_folded_into_convolutions_that_are_no_matrix_products():
    with pytest.raises(ConfigError, match=r"model\.shift: folded: resnet18 .* only be folded into 1x1 ones; use auto"):
        small(shift="folded")


@torch.no_grad()
def test_both_consensus_orders_agree_in_evaluation():
    clips_BTCHW = small_clips(2, 4)
    assert_close(small()(clips_BTCHW), small(consensus="features")(clips_BTCHW))


@pytest.mark.parametrize("consensus, masks", [("logits", 4), ("features", 1)])
def test_dropout_is_drawn_by_frame_or_by_clip(consensus, masks):
    model = small(consensus=consensus, num_classes=2, dropout=0.9).train()
    seen = []
    model.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(small_clips(3, 4))
    assert seen[0].numel() == 3 * masks * model.fc.in_features
    assert (seen[0] == 0).float().mean() > 0.8


@pytest.mark.parametrize("std", [0.01, 0.001])
def test_the_classifier_starts_with_fc_std_and_without_bias(std):
    fc = build_model(Model(num_classes=400, fc_std=std)).fc
    assert fc.weight.std().item() == pytest.approx(std, rel=0.01)
    assert not fc.bias.any()


@pytest.mark.parametrize("width", [8, 16, 32])
def test_a_slim_network_is_the_whole_one_with_all_channels_in_proportion(width):
    slim, whole = skeleton(width=width).state_dict(), skeleton(width=64).state_dict()
    pictures_and_classes = (3, 7)
    for key, value in whole.items():
        channels = [n if n in pictures_and_classes else n * width // 64 for n in value.shape[:2]]
        assert list(slim[key].shape) == [*channels, *value.shape[2:]], key


@pytest.mark.parametrize(
    "backbone, shift", [*product(["resnet50", "mobilenet_v2"], FORMS), ("resnet18", "auto"), ("resnet18", "where")]
)
def test_every_convolution_of_a_channels_last_network_reads_channels_last(backbone, shift):
    width = 64 if backbone == "mobilenet_v2" else 8
    model = small(backbone=backbone, width=width, shift=shift).to(memory_format=torch.channels_last)
    seen = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    clips_BTCHW = as_fed(torch.randn(1, 4, 3, 64, 64))
    model(clips_BTCHW)
    assert [name for name, x in seen.items() if not x.is_contiguous(memory_format=torch.channels_last)] == []
    assert next(iter(seen.values())).data_ptr() == clips_BTCHW.data_ptr()


@torch.no_grad()
def test_channels_last_and_contiguous_networks_agree():
    clips_BTCHW, model = small_clips(2, 4), small()
    expected = model(clips_BTCHW)
    model.to(memory_format=torch.channels_last)
    assert_close(model(as_fed(clips_BTCHW)), expected)


@pytest.mark.parametrize("fast, backbone", [("auto", "resnet18"), ("where", "resnet18"), ("folded", "resnet50")])
def test_gradients_are_the_same_with_each_form_of_the_shift(fast, backbone):
    clips_BTCHW = small_clips(2, 4).double()  # norms over few pixels amplify rounding
    gradients = []
    for shift in ("reference", fast):
        model = small(backbone=backbone, shift=shift, dropout=0).double().train()
        model(clips_BTCHW).square().sum().backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    assert_close(*gradients, rtol=ROUNDING)


def test_a_compiled_network_is_one_graph_and_equals_the_eager_one():
    model, clips_BVTCHW = small(dropout=0).train(), small_clips(1, 2, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(clips_BVTCHW), model(clips_BVTCHW))


def test_the_published_network_has_the_published_size_and_cost():
    model = build_model(Model(num_classes=400))
    assert count_parameters(model) == 23_508_032 + 2049 * 400  # torchvision's ResNet-50 without its classifier
    assert count_macs(model, 224) == pytest.approx(32.88e9, rel=0.01)  # mmaction2's count, pooling included


@pytest.mark.parametrize("shift", FORMS)
def test_the_cost_of_a_network_does_not_depend_on_how_its_shift_is_done(shift):
    model = build_model(Model(num_classes=400, shift=shift))
    assert count_macs(model, 224) == count_macs(build_model(Model(num_classes=400, name="tsn")), 224)


def test_a_network_describes_itself_in_a_line():
    assert describe(build_model(Model(num_classes=400))) == (
        "tsm resnet50: 24.3 M parameters, 32.7 GMAC per clip of 8 frames at 224 px"
    )
