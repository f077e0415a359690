"""Published weights by name: the table, the names, and their use by every program."""

import hashlib
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torchvision.models import get_model_weights

import configs
from configs import ConfigError
from configs.schema import Model
from engine.classes import fit_classifier
from engine.inference.network import open_network
from engine.inference.saved_model import load_saved_model
from engine.runs.find import network_file
from models import CheckpointError, build_model, load_pretrained
from models.weights import zoo
from models.weights.load import has_video_classes
from tests.support.files.site import serving
from tests.support.paths import ROOT
from tools import zoo as tool

ENTRIES = zoo.entries()
SMALL = ["model.backbone=resnet18", "model.width=8", "model.num_classes=5", "model.pretrained=none"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Yield a small network in MIT's layout, published as `small`, and its file on the server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "site"
    folder.mkdir()
    state = build_model(configs.load("tsm_k400_videos", SMALL).model).state_dict()
    shifted = {f"layer{stage}.{block}.conv1" for stage in range(1, 5) for block in range(2)}
    renamed = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        name = f"{module}.net.{leaf}" if module in shifted else key
        renamed[f"module.{name.replace('fc.', 'new_fc.') if key.startswith('fc.') else f'base_model.{name}'}"] = tensor
    torch.save({"state_dict": renamed}, folder / "small.pth")
    with serving(folder) as site:
        entry = replace(ENTRIES["tsm_r50_k400_8f_mit"], name="small", url=site.url("small.pth"), settings=SMALL)
        monkeypatch.setattr(zoo, "entries", lambda: {**ENTRIES, "small": entry})
        yield state, folder / "small.pth", site, entry


def test_names_and_files_are_unique():
    files = [entry.path.name for entry in ENTRIES.values() if entry.url]
    assert len(set(files)) == len(files)
    assert len(ENTRIES) == len(zoo.TABLE.read_text().splitlines())


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_names_a_recipe_that_builds_its_network(entry):
    if entry.data == zoo.IMAGENET:
        settings = configs.overridden(entry.settings)
        assert settings["model.backbone"] and not entry.recipe
        return
    config = entry.config()
    frames, name = config.model.frames, config.model.name
    with torch.device("meta"):
        build_model(config.model)
    assert name == entry.name[:3] or entry.name.startswith(f"pp{name}")
    assert not any(f"_{other}f" in f"_{entry.name}" for other in (3, 5, 8, 16) if other != frames), entry.name
    assert ("r101" in entry.name) == ("101" in config.model.backbone)
    assert bool(entry.top1) == bool(entry.url)


def test_a_digest_is_the_one_in_the_name_of_the_file():
    for entry in ENTRIES.values():
        in_name = entry.path.stem.rpartition("-")[2] if entry.url.endswith(".pth") and entry.source != "MIT" else ""
        assert entry.sha256 == in_name, entry.name


def test_imagenet_weights_of_torchvision_are_those_of_their_backbone_and_version():
    for entry in ENTRIES.values():
        if entry.source == "torchvision":
            version = "IMAGENET1K_V2" if "_v2_" in entry.name else "IMAGENET1K_V1"
            backbone = configs.overridden(entry.settings)["model.backbone"]
            assert entry.url == get_model_weights(backbone)[version].url


def test_the_document_is_the_table():
    assert (ROOT / "docs" / "zoo.md").read_text() == tool.document(list(ENTRIES.values()))


def test_a_name_is_a_network_with_the_settings_of_its_entry(published):
    state, _, site, _ = published
    for _ in range(2):
        saved = load_saved_model(network_file("zoo:small"))
    assert torch.equal(saved.model.fc.weight, state["fc.weight"])
    assert saved.info.config == configs.load("tsm_k400_videos", SMALL)
    assert len(site.asked) == 1


def test_a_zoo_name_can_start_a_training(published):
    state, *_ = published
    model = build_model(Model(backbone="resnet18", width=8, num_classes=3))
    with mock.patch.object(hashlib, "file_digest", wraps=hashlib.file_digest) as hashed:
        report = load_pretrained(model, "zoo:small")
        zoo.local("zoo:small")
    assert hashed.call_count == 1  # after the download, and not again at each use
    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    assert list(report.skipped) == ["fc.weight", "fc.bias"]


LABEL_LIST = "e3e35e0fb544469b0476f68a62b29e1e99c191174da02ffad753455d4d6d10f0"
"""The sha256 of the names, one a line, in Kinetics-400_label_list.txt of PaddleVideo's package ppvideo 2.3.1."""


def test_names_of_kinetics_are_in_the_order_of_paddlevideos_list_and_of_mmaction2s_sorting():
    (names,) = {entry.class_names for entry in ENTRIES.values() if entry.class_names}
    listed = [name.replace(" ", "_") for name in names]
    assert hashlib.sha256("".join(f"{name}\n" for name in listed).encode()).hexdigest() == LABEL_LIST
    assert listed == sorted(listed)  # as tools/data/parse_file_list.py of mmaction2 1.2.0 numbers them


def test_only_networks_for_kinetics_of_projects_whose_order_is_known_have_names():
    named = {entry.source for entry in ENTRIES.values() if entry.class_names}
    assert named == {"mmaction2 1.x", "mmaction2 0.x", "PaddleVideo"}
    for entry in ENTRIES.values():
        assert bool(entry.class_names) == (entry.data == "Kinetics-400" and entry.source in named), entry.name
        assert not entry.class_names or len(entry.class_names) == entry.config().model.num_classes, entry.name


@pytest.mark.parametrize("source, first", [("mmaction2 1.x", "abseiling"), ("MIT", "0")])
def test_predictions_of_a_name_have_names_of_classes_or_a_remedy(published, monkeypatch, caplog, source, first):
    caplog.set_level("INFO")
    entry = replace(published[3], source=source)
    monkeypatch.setattr(zoo, "entries", lambda: {"small": entry})
    path = str(network_file("zoo:small"))
    assert open_network(path).info.name(0) == first
    remedy = f"{path}: has no class names, so classes have numbers; data.class_names=FILE names them"
    assert (remedy in caplog.messages) == (source == "MIT")


def test_classes_of_kinetics_are_found_by_name_at_the_start_of_a_training(published, monkeypatch):
    entry = replace(published[3], source="PaddleVideo")
    monkeypatch.setattr(zoo, "entries", lambda: {"small": entry})
    model = build_model(Model(backbone="resnet18", width=8, num_classes=2))
    loaded = load_pretrained(model, "zoo:small")
    assert loaded.has_video_classes
    fit_classifier(model, loaded, ("Air_drumming", "something new"), whole=False)
    assert torch.equal(model.fc.weight[0], published[0]["fc.weight"][1])


def test_a_file_that_changes_after_its_first_use_is_refused(published):
    path = zoo.local("zoo:small")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name("small.pth.sha256").read_text() == f"{digest}  small.pth\n"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=f"{path}: damaged, its sha256 is .*; delete it"):
        zoo.local("zoo:small")


@pytest.mark.parametrize(
    "name, answer",
    [
        ("tsm_r50_k400_8f_mitt", "no such entry of the zoo; did you mean tsm_r50_k400_8f_mit or"),
        ("quite another thing", r"no such entry of the zoo; python tools/zoo\.py lists all names"),
        (
            "tsm_r50_k400_8f",
            r"not yet trained; take zoo:tsm_r50_k400_8f_mit, or train it with --config tsm_k400_nhwc\.yaml",
        ),
    ],
)
def test_a_zoo_name_without_a_file_is_refused_with_one_that_has(name, answer):
    with pytest.raises(ConfigError, match=answer):
        zoo.local(f"zoo:{name}")


def test_imagenet_weights_can_only_start_a_training(published, tmp_path):
    path = zoo.find("imagenet_r50").path
    with pytest.raises(ConfigError, match=r"model\.pretrained=zoo:imagenet_r50"):
        zoo.entry_of(path).config()
    assert zoo.entry_of(tmp_path / path.name) is None
    starts = ["none", "imagenet", "zoo:imagenet_r50", "zoo:tsm_r50_k400_8f_mit", "best.pt"]
    assert [has_video_classes(source) for source in starts] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("classes", "name", "more", "holds"),
    [
        (1000, "fc", {}, False),
        (1000, "classifier.1", {}, False),
        (400, "fc", {}, True),
        (1000, "fc", {"config": {"model.num_classes": 1000}}, True),  # a run of this project with as many classes
        (1000, "another", {}, True),  # no known classifier
    ],
)
def test_a_file_with_imagenets_number_of_classes_can_only_start_a_training(tmp_path, classes, name, more, holds):
    weights = {"conv1.weight": torch.zeros(8, 3, 7, 7), f"{name}.weight": torch.zeros(classes, 8)}
    torch.save({"state_dict": weights, **more}, tmp_path / "file.pth")
    assert has_video_classes(str(tmp_path / "file.pth")) is holds


def test_the_tool_lists_downloads_and_names_what_it_lacks(published, capsys):
    assert tool.run(tool.arguments(["k400", "16f", "mit"])) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == ["tsm_r50_k400_16f_mit", "Kinetics-400"]
    assert tool.run(tool.arguments(["--get", "small"])) == 0
    assert capsys.readouterr().out.strip().endswith("hub/checkpoints/small.pth")
    assert tool.run(tool.arguments(["small"])) == 0
    assert capsys.readouterr().out.endswith("(downloaded)\n")
    assert tool.run(tool.arguments(["SMALL"])) == 0 and capsys.readouterr().out.count("\n") == 1
    assert tool.run(tool.arguments(["no", "such"])) == 2
    assert capsys.readouterr().err == "zoo.py: no entry holds no and such; without a word all are listed\n"
