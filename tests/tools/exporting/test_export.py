"""Exported files: the logits of their network, metadata, and refusals."""

import copy
import json
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.resnet import Bottleneck

import configs
from engine.inference.exported import open_exported
from engine.inference.metadata import ENDINGS, PRECISIONS
from engine.inference.saved_model import load_saved_model
from engine.runs.environment import environment
from models import CheckpointError, read_file
from models.resnets import SlimResNet
from tests.support.exporting import NAMES, exported, run, weights_file
from tests.support.oracles import paddle_files
from tests.support.oracles.weights import fill_by_name
from tests.support.paths import ROOT
from tools.exporting import export
from tools.exporting.check import Difference, check
from tools.exporting.formats import write_program
from tools.exporting.network import DTYPES

CLOSE = 1e-4  # for logits of the order of 1, in fp32: the order of sums differs
HALF = 1e-2  # the same in fp16


def answers(out, batch, frames=2):
    """Return clips, and the logits of the weights next to an exported file."""
    clips_BTCHW = torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        return clips_BTCHW, load_saved_model(out.parent / "best.pt").model(clips_BTCHW)


def assert_near(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_the_command_line_offers_what_can_be_written():
    assert list(ENDINGS) == list(export.WRITERS)
    assert list(PRECISIONS) == list(DTYPES)


def test_a_disk_without_room_is_noticed_before_libraries_fail_on_it(tmp_path, monkeypatch, capfd):
    weights = weights_file(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**10))
    monkeypatch.setitem(export.WRITERS, "onnx", None)
    assert run(weights, "--format", "onnx") == 2
    assert f"export.py: {tmp_path}: 0.0 MiB free, but the file needs " in capfd.readouterr().err


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("onnx"), "--format", "onnx")


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("program"), "--format", "export")


@pytest.fixture(scope="module")
def pixels_file(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("pixels"), "--format", "onnx", "--uint8", "--precision", "fp16")


@pytest.fixture(scope="module")
def online_file(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("online"), "--format", "onnx", "--online", causal=True)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("form", ["onnx_file", "program_file"])
def test_an_exported_file_gives_the_networks_logits_for_any_batch(form, batch, request):
    out = request.getfixturevalue(form)
    clips_BTCHW, expected_BK = answers(out, batch)
    assert_near(open_exported(out).scores(clips_BTCHW), expected_BK, CLOSE)


def test_views_of_videos_are_scored_as_the_network_scores_them(onnx_file):
    views_BVTCHW = torch.randn(2, 3, 2, 3, 32, 32)
    expected_BVK = load_saved_model(onnx_file.parent / "best.pt").model(views_BVTCHW).detach()
    assert_near(open_exported(onnx_file).scores(views_BVTCHW), expected_BVK, CLOSE)


@pytest.mark.parametrize("form", ["onnx_file", "program_file"])
def test_clips_in_nhwc_memory_and_half_precision_are_taken_as_loaders_give_them(form, request):
    out = request.getfixturevalue(form)
    clips_BTCHW, _ = answers(out, 2)
    as_loaded = clips_BTCHW.half().movedim(2, -1).contiguous().movedim(-1, 2)
    expected_BK = load_saved_model(out.parent / "best.pt").model(as_loaded.float()).detach()
    assert_near(open_exported(out).scores(as_loaded), expected_BK, CLOSE)


def test_clips_of_another_shape_are_refused(onnx_file):
    with pytest.raises(ValueError, match=r"takes clips \[B, 2, 3, 32, 32\].*not \[1, 4, 3, 32, 32\]"):
        open_exported(onnx_file).scores(torch.randn(1, 4, 3, 32, 32))


def test_an_onnx_file_shifts_by_slices_pads_and_concatenations(onnx_file):
    nodes = [node.op_type for node in onnx.load(onnx_file).graph.node]
    assert {"Slice", "Pad", "Concat"} <= set(nodes)
    assert not {name for name in nodes if "Scatter" in name or name in ("Where", "If", "Loop", "BatchNormalization")}
    shifts, others = nodes.count("Concat"), len(nodes)
    assert shifts == 8 and others <= 8 * 10 + 55  # ten nodes a shift, and a ResNet-18 without norms


def test_an_onnx_file_takes_any_batch_under_one_name(onnx_file):
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    clip, logits = model.graph.input[0], model.graph.output[0]
    assert (clip.name, logits.name) == ("clip", "logits")
    assert [dim.dim_param or dim.dim_value for dim in clip.type.tensor_type.shape.dim] == ["N", 2, 3, 32, 32]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["N", 3]


def test_a_program_has_no_norms_and_no_example_clips(program_file):
    operators = {str(node.target) for node in torch.export.load(program_file).graph.nodes}
    assert "aten.conv2d.default" in operators and not [name for name in operators if "norm" in name]
    with zipfile.ZipFile(program_file) as archive:
        assert not [
            entry for entry in archive.infolist() if "sample_inputs" in entry.filename and entry.file_size > 5000
        ]


@pytest.mark.parametrize("form", ["onnx_file", "program_file"])
def test_an_exported_file_contains_no_path_of_its_machine(form, request):
    content = request.getfixturevalue(form).read_bytes()
    assert str(ROOT).encode() not in content


@pytest.mark.parametrize("form", ["onnx_file", "program_file", "pixels_file", "online_file"])
def test_an_exported_file_contains_settings_class_names_and_provenance(form, request):
    out = request.getfixturevalue(form)
    saved, metadata = load_saved_model(out.parent / "best.pt"), open_exported(out).metadata
    assert (metadata.config, metadata.class_names) == (saved.info.config, NAMES)
    assert (metadata.uint8, metadata.online) == (form == "pixels_file", form == "online_file")
    assert metadata.precision == ("fp16" if form == "pixels_file" else "fp32")
    assert (metadata.weights, metadata.made_with["commit"]) == ("best.pt", environment()["commit"])
    assert len(metadata.sha256) == 64


def test_metadata_for_feeding_an_exported_file_can_be_read_without_this_project(onnx_file):
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(onnx_file).metadata_props}
    config = load_saved_model(onnx_file.parent / "best.pt").info.config
    assert (said["frames"], said["size"], said["class_names"]) == (2, 32, list(NAMES))
    assert (said["mean"], said["std"]) == (list(config.clip.mean), list(config.clip.std))
    assert said["fingerprint"] == configs.fingerprint(config)


def test_pixels_give_what_the_normalised_clip_gives(pixels_file):
    exported, saved = open_exported(pixels_file), load_saved_model(pixels_file.parent / "best.pt")
    pixels_BTHWC = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values) for values in (saved.info.config.clip.mean, saved.info.config.clip.std))
    clips_BTCHW = ((pixels_BTHWC / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    assert torch.equal(exported.pixels(clips_BTCHW.half()), pixels_BTHWC)
    assert torch.equal(exported.run(pixels_BTHWC)[0], exported.scores(clips_BTCHW))
    assert_near(exported.scores(clips_BTCHW), saved.model(clips_BTCHW).detach(), HALF)


def test_half_precision_halves_the_weights_and_keeps_fp32_outside(pixels_file, onnx_file):
    graph = onnx.load(pixels_file).graph
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.FLOAT16}
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert pixels_file.stat().st_size < 0.6 * onnx_file.stat().st_size


def test_an_exported_stream_gives_the_logits_of_the_whole_clip(online_file):
    exported, model = open_exported(online_file), load_saved_model(online_file.parent / "best.pt").model
    clips_BTCHW = torch.randn(3, 8, 3, 32, 32)
    with torch.no_grad():
        expected_BTK, expected_BK = model.frame_logits(clips_BTCHW), model(clips_BTCHW)
    assert_near(exported.stream(clips_BTCHW), expected_BTK, CLOSE)
    assert_near(exported.scores(clips_BTCHW), expected_BK, CLOSE)


def test_caches_of_an_exported_stream_are_named_inputs_and_outputs(online_file):
    graph = onnx.load(online_file).graph
    assert [node.name for node in graph.input] == ["frame", *(f"cache_{index}" for index in range(8))]
    assert [node.name for node in graph.output] == ["logits", *(f"next_cache_{index}" for index in range(8))]


def test_the_documented_onnxruntime_examples_run(onnx_file, online_file, tmp_path, monkeypatch):
    text = (ROOT / "docs/deploy.md").read_text()
    _, with_clips, with_frames, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    clips = numpy.random.default_rng(0).standard_normal((1, 8, 3, 32, 32), numpy.float32)
    answers = {"numpy": numpy, "clips": clips[:, :2], "frames": clips.swapaxes(0, 1)}
    Path("best.onnx").symlink_to(onnx_file)
    exec(with_clips, answers)
    assert_near(torch.tensor(answers["logits"]), open_exported(onnx_file).scores(torch.tensor(clips[:, :2])), CLOSE)
    Path("best.onnx").unlink()
    Path("best.onnx").symlink_to(online_file)
    exec(with_clips.rpartition("(logits,)")[0] + with_frames, answers)
    assert_near(torch.tensor(answers["logits"]), open_exported(online_file).stream(torch.tensor(clips))[:, -1], CLOSE)


def test_exported_weights_open_like_any_with_their_settings(tmp_path):
    out = exported(tmp_path, "--format", "safetensors", "--precision", "bf16")
    saved, original = load_saved_model(out), load_saved_model(tmp_path / "best.pt")
    assert (saved.info.config, saved.info.class_names) == (original.info.config, NAMES)
    rounded = original.model.conv1.weight.bfloat16().float()
    assert torch.equal(saved.model.conv1.weight, rounded) and torch.equal(
        saved.model.bn1.running_var, original.model.bn1.running_var
    )


def test_a_file_of_paddlevideo_is_exported_under_its_recipe(tmp_path):
    net = SlimResNet(Bottleneck, [3, 4, 6, 3], 16, 3).eval()
    fill_by_name(net)
    paddle_files.write(tmp_path / "TSM.pdparams", paddle_files.paddle_state(net))
    settings = ["model.width=16", "model.num_classes=3", "clip.size=32", "eval.short_side=32", "model.pretrained=none"]
    out = tmp_path / "TSM.safetensors"  # the fastest format to trace; all are checked alike
    words = ["--config", "tsm_k400_frames.yaml", *settings, "--format", "safetensors", "--out", str(out)]
    assert run(tmp_path / "TSM.pdparams", *words) == 0
    saved = load_saved_model(out)
    assert (saved.info.config.model.num_classes, saved.info.config.model.frames) == (3, 8)


@pytest.mark.parametrize("looks_like", [b"\x80\x02", b"PK", b"\x88\x00"])
def test_safetensors_are_recognised_with_any_header_length(tmp_path, looks_like):
    def header(padding):
        save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"padding": "x" * padding})
        return (tmp_path / "a.safetensors").read_bytes()[:2]

    length = int.from_bytes(looks_like, "little")
    assert header(length - int.from_bytes(header(0), "little")) == looks_like
    assert read_file(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]


def test_a_program_in_bf16_keeps_within_the_tolerance_of_bf16(tmp_path, capfd):
    exported(tmp_path, "--format", "export", "--precision", "bf16")
    assert capfd.readouterr().out.count("differs by at most") == 3


def broken(saved):
    """Return the network with one filter negated."""
    model = copy.deepcopy(saved.model)
    with torch.no_grad():
        model.layer2[0].conv2.weight[0].neg_()
    return replace(saved, model=model)


def test_an_exported_file_with_other_logits_is_not_kept(tmp_path, monkeypatch, capfd):
    def write(saved, metadata, path, device):
        write_program(broken(saved), metadata, path, device)

    monkeypatch.setitem(export.WRITERS, "export", write)
    assert run(weights_file(tmp_path), "--format", "export") == 2
    assert "not kept: its logits differ" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_an_exported_file_with_nan_logits_is_not_kept(tmp_path, program_file):
    exported = replace(open_exported(program_file), run=lambda clip: (torch.full((len(clip), 3), torch.nan),))
    with pytest.raises(CheckpointError, match="not kept"):
        check(exported, load_saved_model(program_file.parent / "best.pt"))


def test_an_earlier_file_stays_until_the_new_one_has_been_checked(tmp_path, monkeypatch, capfd):
    out = exported(tmp_path, "--format", "safetensors")
    before = out.read_bytes()

    def write(saved, metadata, path, device):
        assert out.read_bytes() == before
        raise CheckpointError("the disk is full")

    monkeypatch.setitem(export.WRITERS, "safetensors", write)
    assert run(tmp_path / "best.pt", "--format", "safetensors", "--out", str(out)) == 2
    assert "the disk is full" in capfd.readouterr().err
    assert out.read_bytes() == before


def test_differences_are_reported_in_a_line():
    line = str(Difference(batch=5, largest=1.2e-6, scale=3.25, agreeing=0.8))
    assert line == "batch 5: differs by at most 1.2e-06, logits up to 3.25, same top-1 in 80 %"


def foreign_onnx(path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=opset), path)


def foreign_program(path):
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.ones(1),)), path)


@pytest.mark.parametrize(
    "name, write, problem",
    [
        ("x.pt", Path.touch, "not an exported network; tools/export.py writes .onnx, .pt2"),
        ("x.onnx", lambda path: None, "there is no such file"),
        ("x.onnx", lambda path: path.write_bytes(b"no graph"), "not an ONNX graph, or damaged; write it again"),
        ("x.onnx", Path.touch, "not an ONNX graph, or damaged; write it again"),
        ("x.onnx", foreign_onnx, "contains no metadata of this project; write it with tools/export.py"),
        ("x.pt2", lambda path: path.write_bytes(b"no archive"), "not an archive of PyTorch, or damaged"),
        ("x.pt2", foreign_program, "contains no metadata of this project; write it with tools/export.py"),
        ("x.pt2", lambda path: torch.save({}, path), "PyTorch cannot open it on cpu: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, write, problem):
    write(tmp_path / name)
    with pytest.raises(CheckpointError) as caught:
        open_exported(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("form", ["onnx_file", "program_file"])
def test_a_truncated_exported_file_is_refused(form, cut, tmp_path, request):
    content = request.getfixturevalue(form).read_bytes()
    half = tmp_path / request.getfixturevalue(form).name
    half.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(CheckpointError, match=half.name):
        open_exported(half)


@pytest.mark.parametrize(
    "words, problem",
    [
        ("--format onnx --online", "model.causal: this tsm needs whole clips"),
        ("--format onnx --out x.pt2", "--out: x.pt2 does not end in .onnx, as files of --format onnx do"),
        (
            "--format onnx runtime.precision=fp16",
            "runtime.precision: does not change the exported file; write --precision",
        ),
        ("--format onnx runtime.device=cuda", "runtime.device: does not change the exported file; write --device"),
        ("--format safetensors --uint8", "--format safetensors: contains only weights"),
        ("--format tensorrt", "tensorrt: needed for this, and cannot be imported"),
        ("--format onnx eval.sise=64", "'eval.sise=64': no such key; did you mean eval.size?"),
    ],
)
def test_exports_that_are_impossible_are_refused_in_one_line(tmp_path, monkeypatch, capfd, words, problem):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(weights_file(tmp_path), *words.split()) == 2
    assert problem in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_an_export_never_replaces_its_source_weights(tmp_path, capfd):
    out = exported(tmp_path, "--format", "safetensors")
    assert run(out, "--format", "safetensors") == 2
    assert "is a source of this command, which is never replaced" in capfd.readouterr().err
    weights = tmp_path / "best.pt"
    out.write_text("mine")
    words = [weights, "--format", "safetensors", "--out", str(out)]
    assert run(*words) == 2
    assert f"{out}: is in the way" in capfd.readouterr().err and out.read_text() == "mine"
    assert run(*words, "--force") == run(*words) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_export_for_a_missing_gpu_is_refused(tmp_path, capfd):
    assert run(weights_file(tmp_path), "--format", "aoti", "--device", "cuda") == 2
    assert "--device: cuda, but torch sees no GPU" in capfd.readouterr().err


def test_a_missing_compiler_is_reported(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    assert run(weights_file(tmp_path), "--format", "aoti") == 2
    assert (
        "--format aoti: compiles C++, and there is no compiler; install g++, or name one in CXX"
        in capfd.readouterr().err
    )
