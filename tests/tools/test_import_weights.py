"""tools/import_weights.py: from another project's file to one that needs no recipe."""

import pytest
import torch
from torchvision.models.resnet import Bottleneck

from configs import load
from engine.inference.saved_model import load_saved_model
from engine.runs import checkpoint_files
from models.resnets import SlimResNet
from tests.support.oracles import paddle_files
from tests.support.oracles.weights import fill_by_name
from tools import import_weights

SETTINGS = ["model.width=16", "model.num_classes=3", "model.pretrained=none"]


@pytest.fixture
def network(tmp_path):
    """Return a network of PaddleVideo; its weights and its class names are in the folder."""
    net = SlimResNet(Bottleneck, [3, 4, 6, 3], 16, 3).eval()
    fill_by_name(net)
    paddle_files.write(tmp_path / "TSM.pdparams", paddle_files.paddle_state(net))
    (tmp_path / "names.txt").write_text("up\ndown\nleft\n")
    return net


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Return a function that runs the tool in the folder and returns its exit code and output."""

    def run(*words):
        command = ["import_weights.py", "TSM.pdparams", "--config", "tsm_k400_videos.yaml", *SETTINGS, *words]
        monkeypatch.setattr("sys.argv", command)
        code = import_weights.main()
        said = capfd.readouterr()
        return code, said.out + said.err

    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize("name", ["best.pt", "new/best.safetensors"])
def test_imported_weights_need_no_recipe_and_give_the_same_logits(network, run, tmp_path, name):
    code, said = run("--out", name, "--class-names", "names.txt")
    assert code == 0
    assert said.splitlines() == [
        "267 tensors loaded from TSM.pdparams (PaddleVideo); fc.weight transposed; "
        "folds of channels swapped in 122 tensors, exact if trained with 8 frames (model.shift_div)",
        f"written to {name}, with 3 class names",
    ]
    saved = load_saved_model(tmp_path / name)
    clips = torch.randn(1, 8, 3, 64, 64)
    with torch.no_grad():
        logits = saved.model(clips)
    torch.testing.assert_close(logits, paddle_files.mirrored_tsm_logits(network, clips), atol=1e-4, rtol=0)
    assert saved.info.config == load("tsm_k400_videos.yaml", SETTINGS)
    assert saved.info.class_names == ("up", "down", "left")


def test_a_file_of_this_project_keeps_its_settings_and_class_names(network, run, tmp_path):
    run("--out", "first.pt", "--class-names", "names.txt", "clip.mean=[0.1,0.2,0.3]")
    (tmp_path / "TSM.pdparams").write_bytes((tmp_path / "first.pt").read_bytes())
    code, said = run("--out", "second.pt")
    assert code == 0 and "clip.mean=[0.1, 0.2, 0.3] (recipe: " in said
    first, second = (load_saved_model(tmp_path / name).info for name in ("first.pt", "second.pt"))
    assert (second.config.clip, second.class_names) == (first.config.clip, ("up", "down", "left"))
    (tmp_path / "names.txt").write_text("down\nup\nleft\n")
    code, said = run("--out", "third.pt", "--class-names", "names.txt")
    assert code == 2 and "has the network's classes in another order" in said


def test_the_checkpoint_is_verified_by_its_sidecar(network, run, tmp_path):
    run("--out", "best.pt")
    assert checkpoint_files.damage(tmp_path / "best.pt") is None
    assert load_saved_model(tmp_path / "best.pt").info.name(1) == "1"


@pytest.mark.parametrize(
    "words, seen",
    [
        (["--out", "best.onnx"], "best.onnx: ends neither in .pt nor in .safetensors"),
        (["--out", "names.txt"], "names.txt: is in the way"),
        (["--out", "a.pt", "model.num_classes=4"], "TSM.pdparams: does not fit the model; "),
        (["--out", "a.pt", "--class-names", "two.txt"], "data.class_names: two.txt: 2 names for a network"),
    ],
)
def test_files_that_cannot_be_imported_are_refused_in_one_line(network, run, tmp_path, words, seen):
    (tmp_path / "two.txt").write_text("up\ndown\n")
    code, said = run(*words)
    assert code == 2
    assert f"import_weights.py: {seen}" in said
    assert not (tmp_path / "a.pt").exists()
