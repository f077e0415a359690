"""Weights from files: loaded whole, or refused in one line with the reason."""

import re

import pytest
import torch
import torchvision

from configs.schema import Model
from models import CheckpointError, build_model, load_pretrained, load_weights


def small(**changes):
    settings = {"backbone": "resnet18", "width": 8, "num_classes": 5, "frames": 4} | changes
    return build_model(Model(**settings))


def saved(path, content):
    torch.save(content, path)
    return path


def tensors(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def refusal(load, model, *arguments):
    """Return the error of a refused file; the model must be unchanged."""
    before = tensors(model)
    with pytest.raises(CheckpointError) as caught:
        load(model, *arguments)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_torchvision_file_loads_whole(tmp_path):
    theirs = torchvision.models.resnet18(num_classes=5)
    model = small(width=64)
    report = load_weights(model, saved(tmp_path / "resnet18.pth", theirs.state_dict()))
    torch.testing.assert_close(tensors(model), tensors(theirs), atol=0, rtol=0)
    assert report.matched == list(theirs.state_dict())
    assert (report.missing, report.unexpected, report.skipped) == ([], [], {})


def test_a_file_without_batch_counters_is_whole(tmp_path):
    weights = {key: value for key, value in tensors(small()).items() if not key.endswith("num_batches_tracked")}
    report = load_weights(small(), saved(tmp_path / "old.pth", weights))
    assert report.matched == list(weights)


@pytest.mark.parametrize("name", ["tsm", "tsn"])
def test_tsm_and_tsn_weights_are_the_same_file(tmp_path, name):
    report = load_weights(small(name=name), saved(tmp_path / "tsm.pt", small(name="tsm").state_dict()))
    assert len(report.matched) == len(small().state_dict())


@pytest.mark.parametrize("name", ["tsm", "tsn"])
def test_weights_without_a_record_of_their_shift_are_reported(tmp_path, name):
    path = saved(tmp_path / "bare.pt", small().state_dict())
    assert f"taken as those of a {name.upper()}, which the file" in load_weights(small(name=name), path).summary()
    assert "does not tell" not in load_pretrained(small(name=name), str(path)).summary()


@pytest.mark.parametrize(
    ("key", "value"), [("layer2.0.conv1.weight", torch.nan), ("fc.bias", -torch.inf), ("bn1.running_var", -1.0)]
)
@pytest.mark.parametrize("load", [load_weights, load_pretrained])
def test_values_with_which_no_network_computes_a_number_are_refused(tmp_path, load, key, value):
    weights = tensors(small())
    weights[key].view(-1)[0] = value
    path = str(saved(tmp_path / "broken.pt", weights))
    assert f"not finite, or variances below zero: {key}; it is damaged" in refusal(load, small(), path)


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (lambda a, b: {"model": a, "ema": b}, "those under 'ema', not those under 'model'"),
        (lambda a, b: {"model_ema": {"decay": 0.9, "module": b}, "model": a}, "under 'model', not those under 'model_"),
        (lambda a, b: {"state_dict_ema": b, "state_dict": a}, "under 'state_dict_ema', not those under 'state_dict'"),
    ],
)
def test_the_choice_among_several_networks_in_a_file_is_logged(tmp_path, content, taken):
    path = saved(tmp_path / "both.pt", content(tensors(small()), tensors(small())))
    assert taken in load_weights(small(), path).summary()


def test_a_checkpoint_gives_its_averaged_weights_before_its_last_ones(tmp_path):
    last, averaged = small(), small()
    path = saved(tmp_path / "both.pt", {"model": last.state_dict(), "ema": averaged.state_dict(), "step": 7})
    model = small()
    load_weights(model, path)
    torch.testing.assert_close(tensors(model), tensors(averaged), atol=0, rtol=0)


def test_a_checkpoint_without_averaging_gives_its_last_weights(tmp_path):
    last, model = small(), small()
    content = {"model": last.state_dict(), "ema": None, "step": 7, "config": {"model.frames": 4}}
    report = load_weights(model, saved(tmp_path / "last.pt", content))
    torch.testing.assert_close(tensors(model), tensors(last), atol=0, rtol=0)
    assert report.format == "checkpoint of a run"


def test_half_precision_files_load_into_full_precision(tmp_path):
    path = saved(tmp_path / "half.pt", {key: value.half() for key, value in small().state_dict().items()})
    model = small()
    load_weights(model, path)
    assert model.conv1.weight.dtype == torch.float32


def test_loading_keeps_the_memory_format_of_the_model(tmp_path):
    model = small().to(memory_format=torch.channels_last)
    load_weights(model, saved(tmp_path / "nchw.pt", small().state_dict()))
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_deeper_network_is_refused_though_all_that_is_wanted_is_there(tmp_path):
    with torch.device("meta"):
        wanted = small(backbone="resnet50", width=64).state_dict()
        given = small(backbone="resnet101", width=64).state_dict()
    assert all(given[key].shape == value.shape for key, value in wanted.items())
    path = saved(tmp_path / "deep.pt", small(backbone="resnet101").state_dict())
    said = refusal(load_weights, small(backbone="resnet50"), path)
    assert re.search(r"unexpected: layer3\.6\.conv1\.weight, .* and \d+ more", said)


def test_a_refusal_names_five_missing_keys_and_counts_the_others(tmp_path):
    path = saved(tmp_path / "stem.pt", {"conv1.weight": small().conv1.weight.detach()})
    said = refusal(load_weights, small(), path)
    missing = re.search(r"missing: (.*) and (\d+) more", said)
    assert len(missing[1].split(", ")) == 5
    assert int(missing[2]) == len(list(small().parameters())) + 2 * 20 - 1 - 5  # 20 norms have two running statistics


def test_another_number_of_classes_is_refused_except_for_pretraining(tmp_path):
    path = saved(tmp_path / "seven.pt", small(num_classes=7).state_dict())
    said = refusal(load_weights, small(), path)
    assert "misfit: fc.weight ([7, 64] in the file, [5, 64] in the model), fc.bias" in said


def test_pretraining_keeps_the_new_classifier_and_logs_it(tmp_path):
    given = small(num_classes=7)
    model = small()
    classifier = model.fc.weight.clone()
    report = load_pretrained(model, str(saved(tmp_path / "seven.pt", given.state_dict())))
    assert torch.equal(model.conv1.weight, given.conv1.weight)
    assert torch.equal(model.fc.weight, classifier)
    assert list(report.skipped) == ["fc.weight", "fc.bias"]
    assert "fc.weight skipped: [7, 64] in the file, [5, 64] in the model" in report.summary()


def test_pretraining_takes_a_file_without_classifier(tmp_path):
    weights = {key: value for key, value in tensors(small()).items() if not key.startswith("fc.")}
    report = load_pretrained(small(), str(saved(tmp_path / "trunk.pt", weights)))
    assert report.missing == ["fc.weight", "fc.bias"]
    assert report.summary().endswith("missing: fc.weight, fc.bias")


def test_pretraining_refuses_half_a_backbone(tmp_path):
    weights = {key: value for key, value in tensors(small()).items() if not key.startswith("layer4.")}
    said = refusal(load_pretrained, small(), str(saved(tmp_path / "cut.pt", weights)))
    assert "missing: layer4.0.conv1.weight, " in said


def test_pretraining_from_none_changes_nothing():
    model = small()
    before = tensors(model)
    assert load_pretrained(model, "none") is None
    torch.testing.assert_close(tensors(model), before, atol=0, rtol=0)


def test_a_missing_file_is_named(tmp_path):
    said = refusal(load_weights, small(), "no/such.pt")
    assert said == "no/such.pt: there is no such file of weights; check the path"
    said = refusal(load_pretrained, small(), str(tmp_path))
    assert said == f"{tmp_path}: is a folder; name a file in it, such as best.pt"


def test_the_contents_of_an_unknown_file_are_described(tmp_path):
    path = saved(tmp_path / "mit.pt", {"epoch": 3, "arch": "resnet50", "state_dict": {}})
    said = refusal(load_weights, small(), path)
    assert "contains a dictionary of epoch, arch, state_dict; formats that can be read: " in said


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_tensors_of_another_kind_are_refused(tmp_path, kind):
    weights = small().state_dict()
    path = saved(tmp_path / "kind.pt", weights | {"conv1.weight": weights["conv1.weight"].to(kind)})
    assert f"misfit: conv1.weight ({kind} in the file, torch.float32 in the model)" in refusal(
        load_weights, small(), path
    )


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("change", [lambda weight: weight.to("meta"), torch.Tensor.to_sparse], ids=["meta", "sparse"])
def test_tensors_without_plain_numbers_are_refused(tmp_path, change):
    weights = small().state_dict()
    path = saved(tmp_path / "odd.pt", weights | {"conv1.weight": change(weights["conv1.weight"])})
    assert "formats that can be read: " in refusal(load_weights, small(), path)


@pytest.mark.parametrize("content", [[1, 2], {}, torch.zeros(3)], ids=["list", "empty", "tensor"])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    said = refusal(load_weights, small(), saved(tmp_path / "odd.pt", content))
    assert f"contains a {type(content).__name__}; " in said


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("keep", [100, 5000, -1])
def test_a_truncated_file_is_refused(tmp_path, keep, archive):
    path = tmp_path / "cut.pt"
    torch.save(small().state_dict(), path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[:keep])
    assert "cut.pt: cannot be read (" in refusal(load_weights, small(), path)


@pytest.mark.parametrize(
    "content, seen",
    [
        (b"", "is empty"),
        (b"P", "begins with 'P'"),
        (b"<!DOCTYPE html>\n<html>Log in</html>", "begins with '<!DOCTYPE html>?<html>Log in</...'"),
        (b"version https://git-lfs.github.com/spec/v1", "begins with 'version https://git-lfs.github...'"),
    ],
)
def test_a_file_of_a_failed_download_is_described(tmp_path, content, seen):
    path = tmp_path / "page.pt"
    path.write_bytes(content)
    assert refusal(load_weights, small(), path).startswith(f"{path}: is not a file of weights: it {seen}; ")


def named(cause, **changes):
    """Return a pattern for an error that ends by naming settings."""
    return f"; {cause}: set " + " ".join(f"model.{key}={value}" for key, value in changes.items()) + "$"


@pytest.mark.parametrize(
    "theirs",
    [
        {"backbone": "resnet34"},
        {"backbone": "resnet50"},
        {"backbone": "resnet101"},
        {"width": 16},
        {"backbone": "resnet101", "width": 16, "num_classes": 7},
    ],
    ids=str,
)
def test_the_settings_that_a_file_would_fit_are_named(tmp_path, theirs):
    path = saved(tmp_path / "other.pt", small(**theirs).state_dict())
    wanted = {key: theirs[key] for key in ("width", "backbone", "num_classes") if key in theirs}
    assert re.search(named("it is another network", **wanted), refusal(load_weights, small(), path))


def test_a_mobilenet_is_distinguished_from_a_resnet(tmp_path):
    path = saved(tmp_path / "other.pt", small(backbone="mobilenet_v2", width=64).state_dict())
    said = refusal(load_weights, small(), path)
    assert said.endswith("; it is another network: set model.backbone=mobilenet_v2")


def test_shapes_that_do_not_fit_are_shown_whole(tmp_path):
    path = saved(tmp_path / "resnet18.pt", small(width=64).state_dict())
    said = refusal(load_weights, small(backbone="resnet50", width=64), path)
    assert "layer2.0.downsample.0.weight ([128, 64, 1, 1] in the file, [512, 256, 1, 1] in the model)" in said


def test_other_classes_are_advised_to_start_a_training(tmp_path):
    path = saved(tmp_path / "seven.pt", small(num_classes=7).state_dict())
    assert refusal(load_weights, small(), path).endswith(
        f"; it has other classes: set model.num_classes=7, or start a training from it with model.pretrained={path}"
    )


def test_a_refused_start_of_a_training_names_settings_without_num_classes(tmp_path):
    path = saved(tmp_path / "wide.pt", small(num_classes=7, width=16).state_dict())
    said = refusal(load_pretrained, small(), str(path))
    assert re.search(named("it is another network", width=16), said)


def test_an_incomplete_network_is_reported_as_such(tmp_path):
    weights = {key: value for key, value in tensors(small()).items() if not key.startswith("layer4.1.conv2")}
    said = refusal(load_weights, small(), saved(tmp_path / "cut.pt", weights))
    assert said.endswith("; it does not contain a whole network of model.backbone and model.width")


@pytest.mark.parametrize(
    "old, new, cause",
    [
        ("layer1.0.", "layer1.0.net.", "it shifts whole blocks"),
        ("layer2.", "layer2.net.", "it pools over time"),
    ],
)
def test_networks_of_mit_that_this_project_does_not_have_are_named(tmp_path, old, new, cause):
    state = {f"base_model.{key.replace(old, new)}": value for key, value in small().state_dict().items()}
    assert f"; {cause} (" in refusal(load_weights, small(), saved(tmp_path / "mit.pth", state))
