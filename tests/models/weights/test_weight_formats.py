"""Weights of other projects: their names and layouts are converted, with the same logits."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from configs.schema import Model
from models import CheckpointError, build_model, load_pretrained, load_weights
from models.shift.conv import ShiftedConv2d
from models.weights.formats import recognise
from tests.support.oracles.weights import fill_by_name, make_clips
from tests.support.paths import DATA

ROUNDING = 1e-4  # for logits that spread by 1 to 5, between two orders of summation in fp32
LAYER_NAMES = json.loads((DATA / "layer_names.json").read_text())  # libraries, in the order of their use
SHIFTED = re.compile(r"(layer\d\.\d+\.(?:block\.)?conv1)\.")  # a ResNet with fewer than 23 blocks a stage


def model(**changes):
    return build_model(Model(**({"backbone": "resnet50", "width": 8, "num_classes": 5, "frames": 4} | changes))).eval()


def skeleton(**changes):
    with torch.device("meta"):
        return build_model(Model(**({"num_classes": 5} | changes)))


def layers(net):
    return list(dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict()))


def mit_name(key, shift=True):
    """Return MIT's name of a tensor of a ResNet."""
    key = SHIFTED.sub(r"\1.net.", key) if shift else key
    return "module.new_fc." + key.removeprefix("fc.") if key.startswith("fc.") else "module.base_model." + key


def mmaction_name(key, shift=True):
    """Return mmaction2's name of a tensor of a ResNet."""
    key = SHIFTED.sub(r"\1.net.", key) if shift else key
    key = re.sub(r"\bconv(\d)\.", r"conv\1.conv.", key)
    key = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key)
    key = key.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
    return "cls_head.fc_cls." + key.removeprefix("fc.") if key.startswith("fc.") else "backbone." + key


def mit_file(path, state, shift=True):
    """Write a file as MIT's training does, in the container of that version of torch."""
    content = {"epoch": 50, "arch": "resnet50", "state_dict": {mit_name(key, shift): state[key] for key in state}}
    content |= {"optimizer": {"state": {}, "param_groups": [{"lr": 0.02}]}, "best_prec1": torch.tensor(71.16)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def mmaction_file(path, state, shift=True, **beside):
    renamed = {mmaction_name(key, shift): state[key] for key in state}
    torch.save({"meta": {"epoch": 50, "cfg": "model = dict(...)"}, "state_dict": renamed} | beside, path)
    return path


FILES = {"MIT TSM": mit_file, "mmaction2": mmaction_file}


@pytest.mark.parametrize(
    "source, settings",
    [
        ("mmaction2 1.2.0 ResNetTSM(50)", {"backbone": "resnet50"}),
        ("mmaction2 1.2.0 ResNetTSM(101)", {"backbone": "resnet101"}),
        ("mmaction2 1.2.0 MobileNetV2TSM", {"backbone": "mobilenet_v2"}),
        ("timm 1.0.31 mobilenetv2_100", {"backbone": "mobilenet_v2"}),
    ],
)
def test_layers_are_recognised_by_the_names_that_libraries_give_them(source, settings):
    net = skeleton(**settings)
    found = recognise({f"{name}.weight": torch.zeros(1, 1, 1, 1) for name in LAYER_NAMES[source]}, Path("x.pth"))
    assert [key.removesuffix(".weight") for key in found.weights] == layers(net)
    assert found.format == source.split()[0]
    if found.shifts is not None:
        shifted = {name for name, part in net.named_modules() if isinstance(part, ShiftedConv2d)}
        assert {name for name in found.shifts if not name.endswith("conv.0.1")} == shifted


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["tsm", "tsn"])
def test_a_resnet_of_another_project_loads_whole(tmp_path, name, kind):
    given, net = model(), model(name=kind)
    report = load_weights(net, FILES[name](tmp_path / "net.pth", given.state_dict(), kind == "tsm"))
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)
    assert (report.format, report.unexpected, report.missing) == (name, [], [])
    assert report.converted == [SHARE] * (kind == "tsm")


SHARE = "taken as trained with model.shift_div=8, which the file does not tell"
ATTENDING = re.compile(r"(layer2\.[02]|layer3\.[024])\.(?!nl\.)")


def with_attention(name, state):
    """Return a state with non-local blocks in their form: 1x1x1 convolutions, and blocks in separate modules."""
    written = {}
    for key, value in state.items():
        if ".nl." in key and value.ndim == 4:
            value = value.unsqueeze(-1)
        key = ATTENDING.sub(r"\1.block.", key)
        if name == "mmaction2" and ".nl." in key:
            key = re.sub(r"nl\.(theta|phi\.0|g\.0)\.", r"nl.\1.conv.", key).replace("nl.", "non_local_block.")
            key = key.replace("W.0.", "conv_out.conv.").replace("W.1.", "conv_out.bn.")
        written[key] = value
    return {key: value for key, value in written.items() if not key.endswith("conv_out.conv.bias")}


@pytest.mark.parametrize("name", FILES)
def test_non_local_blocks_of_another_project_load_whole(tmp_path, name):
    given, net = model(non_local=True), model(non_local=True)
    for layer, part in given.named_modules():
        if layer.endswith(".nl.W.0"):
            nn.init.zeros_(part.bias)
    path = FILES[name](tmp_path / "net.pth", with_attention(name, given.state_dict()))
    report = load_weights(net, path)
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)
    biases = ["5 biases set to 0: mmaction2's non-local blocks have none"] * (name == "mmaction2")
    assert report.converted == [*biases, SHARE]
    with pytest.raises(CheckpointError, match=r"it is another network: set model\.non_local=true$"):
        load_weights(model(), path)


def test_layers_of_non_local_blocks_are_named_as_mmaction2_names_them():
    state = skeleton(non_local=True, backbone="resnet50").state_dict()
    written = {mmaction_name(key).rpartition(".")[0] for key in with_attention("mmaction2", state)}
    assert written == set(LAYER_NAMES["mmaction2 1.2.0 ResNetTSM(50, non_local)"])


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ("non_local_cfg=dict(mode='dot_product')", "use mode="),
        ('{"mode": "dot_product", "use_scale": false}', "use mode="),
        ("non_local_cfg=dict(use_scale=True, mode='embedded_gaussian')", "divide by the square root of their channels"),
        ('{"use_scale": true}', "divide by the square root of their channels"),
        ("non_local_cfg=dict(sub_sample=True)", "divide by the square root of their channels"),  # mmcv's default
    ],
)
def test_non_local_blocks_of_another_kind_are_refused(tmp_path, cfg, said):
    state = with_attention("mmaction2", model(non_local=True).state_dict())
    path = mmaction_file(tmp_path / "net.pth", state, meta={"epoch": 50, "cfg": cfg})
    with pytest.raises(CheckpointError, match=f"its non-local blocks {said}"):
        load_weights(model(non_local=True), path)


def test_averaged_weights_without_statistics_are_called_so(tmp_path):
    state = model().state_dict()
    average = {mmaction_name(key): tensor for key, tensor in state.items() if ".running_" not in key}
    path = mmaction_file(tmp_path / "net.pth", state, state_dict_ema=average)
    with pytest.raises(CheckpointError, match=r"missing: bn1\.running_mean, .*; it has no statistics of batch norms"):
        load_weights(model(), path)
    torch.save({"layer1.0.conv1.weight": torch.ones(3, 3)}, tmp_path / "other.pt")  # nothing of a network
    with pytest.raises(CheckpointError, match="it does not contain a whole network"):
        load_weights(model(), tmp_path / "other.pt")


def test_the_copies_of_weights_that_mmcv_keeps_for_an_average_are_left_out(tmp_path):
    given, net = model(), model()
    state = {mmaction_name(key): tensor for key, tensor in given.state_dict().items()}
    copied = [mmaction_name(name) for name, _ in given.named_parameters()]
    copies = {f"ema_{name.replace('.', '_')}": torch.zeros_like(state[name]) for name in copied}
    torch.save({"state_dict": copies | state}, tmp_path / "net.pth")
    remark = f"without {len(copies)} tensors ema_*, a second copy of the weights that mmcv does not test"
    assert load_weights(net, tmp_path / "net.pth").converted[0] == remark
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("cfg", ["shift_div=4,", "'shift_div': 4", '{"shift_div": 4}'])
def test_the_share_of_shifted_channels_in_mmaction2s_settings_is_compared(tmp_path, cfg):
    path = mmaction_file(tmp_path / "net.pth", model().state_dict(), meta={"cfg": cfg})
    with pytest.raises(CheckpointError, match=r"trained with model\.shift_div=4; set that"):
        load_weights(model(), path)
    assert load_weights(model(shift_div=4), path).converted == []


def test_non_local_blocks_as_mmaction2_publishes_them_load_with_their_settings(tmp_path):
    state = with_attention("mmaction2", model(non_local=True).state_dict())
    cfg = "non_local_cfg=dict(sub_sample=True, use_scale=False, mode='embedded_gaussian')"
    load_weights(model(non_local=True), mmaction_file(tmp_path / "net.pth", state, meta={"epoch": 50, "cfg": cfg}))


ODD = {
    "scalar": torch.tensor(1.0),
    "empty": torch.zeros(0),
    "five axes": torch.zeros(8, 3, 1, 1, 1),
    "integers": torch.zeros(8, 3, 7, 7, dtype=torch.int8),
    "expanded": torch.zeros(()).expand(2**40, 2**10),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "key",
    [
        "conv1.weight",
        "new_fc.weight",
        "base_model.layer2.0.nl.W.0.weight",
        "base_model.features.2.conv.0.net.weight",
        "backbone.layer2.0.non_local_block.conv_out.conv.weight",
        "cls_head.fc_cls.weight",
        "conv_stem.weight",
        "backbone.res2a.conv0._conv.weight",
        "backbone.conv._conv.weight",
        "head.fc.weight",
        "layer1." + 5000 * "9" + ".conv1.weight",
        ".",
        "",
    ],
    ids=lambda key: key[:50],
)
def test_odd_tensors_are_refused_in_a_line_under_any_name(tmp_path, key, odd):
    mark = {"backbone.conv1.conv.weight": torch.zeros(1)} if "non_local" in key else {}
    torch.save({key: odd} | mark, tmp_path / "net.pth")
    for net in (model(), model(non_local=True)):
        with pytest.raises(CheckpointError):
            load_weights(net, tmp_path / "net.pth")


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind, frames", [("tsm", 8), ("tsn", 3)])
def test_weights_of_another_project_give_mits_logits(tmp_path, name, kind, frames):
    reference = np.load(DATA / f"mit_{kind}_r50.npz")
    net = model(name=kind, width=64, num_classes=400, frames=8)
    given = model(name=kind, width=64, num_classes=400, frames=8)
    fill_by_name(given)
    load_weights(net, FILES[name](tmp_path / "net.pth", given.state_dict(), kind == "tsm"))
    clips_BTCHW = make_clips(int(reference["input_seed"]), clips=2, frames=frames)
    torch.testing.assert_close(net(clips_BTCHW), torch.from_numpy(reference["logits"]), atol=ROUNDING, rtol=0)


def flat_block(channels, out, stride, widen):
    """Return an inverted residual block in MIT's form: all layers in a row."""
    inner = channels * widen
    first = [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()] if widen > 1 else []
    middle = [nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
    last = [nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)]
    block = nn.Module()
    block.conv = nn.Sequential(*first, *middle, *last)
    block.forward = lambda x: x + block.conv(x) if stride == 1 and channels == out else block.conv(x)
    return block


def flat_mobilenet(classes):
    """Return MobileNetV2 with MIT's names."""
    net = nn.Module()
    blocks, channels = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())], 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for widen, out, count, stride in table:
        for number in range(count):
            blocks.append(flat_block(channels, out, stride if number == 0 else 1, widen))
            channels = out
    blocks.append(nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
    net.features, net.classifier = nn.Sequential(*blocks), nn.Linear(1280, classes)
    net.forward = lambda x: net.classifier(net.features(x).mean((2, 3)))
    return net.eval()


@torch.no_grad()
def test_mits_mobilenet_gives_the_same_logits_here(tmp_path):
    torch.manual_seed(0)
    given, net = flat_mobilenet(5), model(name="tsn", backbone="mobilenet_v2", width=64)
    for key, value in given.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
    state = {f"module.base_model.{key}": value for key, value in given.state_dict().items()}
    state = {key.replace("base_model.classifier", "new_fc"): value for key, value in state.items()}
    torch.save({"state_dict": state}, tmp_path / "mobilenet.pth")
    report = load_weights(net, tmp_path / "mobilenet.pth")
    x_NCHW = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(x_NCHW[:, None]), given(x_NCHW), atol=ROUNDING, rtol=0)
    assert report.format == "MIT TSM"


def test_mits_shifted_mobilenet_is_distinguished_from_an_unshifted_one(tmp_path):
    parts = skeleton(backbone="mobilenet_v2").named_modules()
    places = {name.replace("conv.0.0", "conv.0") for name, part in parts if isinstance(part, ShiftedConv2d)}
    state = {}
    for key, value in flat_mobilenet(5).state_dict().items():
        layer, _, leaf = key.rpartition(".")
        state[f"base_model.{layer}{'.net' if layer in places else ''}.{leaf}"] = value
    torch.save(state, tmp_path / "mobilenet.pth")
    assert len(places) == 10
    load_weights(model(backbone="mobilenet_v2", width=64), tmp_path / "mobilenet.pth")
    with pytest.raises(CheckpointError, match="with the shift in 10 layers, the model shifts in none"):
        load_weights(model(name="tsn", backbone="mobilenet_v2", width=64), tmp_path / "mobilenet.pth")


@pytest.mark.parametrize("name", FILES)
def test_a_training_for_other_classes_starts_from_another_projects_weights(tmp_path, name):
    given, net = model(), model(num_classes=9)
    classifier = net.fc.weight.clone()
    report = load_pretrained(net, str(FILES[name](tmp_path / "net.pth", given.state_dict())))
    assert torch.equal(net.layer4[2].conv3.weight, given.layer4[2].conv3.weight)
    assert torch.equal(net.fc.weight, classifier)
    assert "fc.weight skipped: [5, 256] in the file, [9, 256] in the model" in report.summary()


@pytest.mark.parametrize(
    "theirs, ours, seen",
    [
        (True, {"name": "tsn"}, "trained with the shift in 16 layers, the model shifts in none"),
        (False, {"name": "tsm"}, "trained with the shift in no layers, the model shifts in 16"),
        (True, {"shift_every": 2}, "trained with the shift in 16 layers, the model shifts in 9"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_weights_that_were_shifted_elsewhere_only_start_a_training(tmp_path, name, theirs, ours, seen):
    path = FILES[name](tmp_path / "net.pth", model().state_dict(), theirs)
    with pytest.raises(CheckpointError, match=f"{seen}; model.name and .*; or start a training from it with"):
        load_weights(model(**ours), path)
    assert seen in load_pretrained(model(**ours), str(path)).summary()


@pytest.fixture
def history_buffer(monkeypatch):
    """Return the class of mmengine's training logs; it is removed after the test has written its file."""
    module = ModuleType("mmengine.logging.history_buffer")
    buffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = buffer
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, module)
    return buffer


def test_training_logs_in_mmaction2_checkpoints_are_ignored(tmp_path, history_buffer, monkeypatch):
    log = history_buffer()
    log.values = np.arange(3.0)
    path = mmaction_file(tmp_path / "net.pth", model().state_dict(), message_hub={"loss": log}, best=np.float64(0.7))
    monkeypatch.undo()
    assert len(load_weights(model(), path).matched) == len(model().state_dict())


@pytest.mark.parametrize(
    "wrapper, prefix",
    [
        ("ema", ""),
        ("model_ema", "module."),
        ("state_dict_ema", "module."),
        ("model", "_orig_mod."),
        ("model", "module._orig_mod."),
        ("state_dict", "model."),
    ],
)
def test_weights_are_found_under_the_usual_names(tmp_path, wrapper, prefix):
    given, net = model(), model()
    state = {prefix + key: value for key, value in given.state_dict().items()} | {"n_averaged": torch.tensor(3)}
    torch.save({wrapper: state, "epoch": 3}, tmp_path / "net.pth")
    load_weights(net, tmp_path / "net.pth")
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("averaged, last", [("model_ema", "model"), ("state_dict_ema", "state_dict")])
def test_averaged_weights_are_preferred_to_the_last_ones(tmp_path, averaged, last):
    given, net = model(), model()
    torch.save({last: model().state_dict(), averaged: given.state_dict()}, tmp_path / "net.pth")
    load_weights(net, tmp_path / "net.pth")
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)


def test_a_safetensors_file_loads(tmp_path):
    given, net = model(), model()
    save_file(given.state_dict(), tmp_path / "net.bin")
    assert load_weights(net, tmp_path / "net.bin").format == "torchvision"
    torch.testing.assert_close(net.state_dict(), given.state_dict(), atol=0, rtol=0)


def test_two_tensors_with_the_same_target_name_are_refused(tmp_path):
    state = {f"base_model.{key}": value for key, value in model().state_dict().items()}
    torch.save(state | {"new_fc.weight": torch.zeros(5, 256)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"has two tensors named fc\.weight"):
        load_weights(model(), tmp_path / "net.pth")
