"""torchvision's ImageNet weights: downloaded once, kept whole, and named in the error without a network."""

import hashlib

import pytest
import torch
from torchvision.models import get_model_weights

from configs import ConfigError
from configs.schema import Model
from models import CheckpointError, build_model, load_pretrained
from models.weights import imagenet
from tests.support.files.site import serving


def small(**changes):
    return build_model(Model(**({"backbone": "resnet18", "width": 8, "num_classes": 5, "frames": 4} | changes)))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return torch.hub's folder of downloads, empty, on a machine without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    with serving(folder) as site:
        yield site


@pytest.fixture
def published(site, hub, monkeypatch):
    """Publish weights of a small network with 1000 classes at torchvision's address; return them and their file."""
    net = small(num_classes=1000)
    torch.save(net.state_dict(), site.folder / "net.pth")
    digest = hashlib.sha256((site.folder / "net.pth").read_bytes()).hexdigest()[:8]
    file = (site.folder / "net.pth").rename(site.folder / f"resnet18-{digest}.pth")
    monkeypatch.setattr(imagenet, "_url", lambda backbone, source: site.url(file.name))
    return net, file


@pytest.mark.parametrize("source", imagenet.VERSIONS)
def test_weights_are_downloaded_once(published, hub, source, site):
    net, file = published
    for _ in range(2):
        model = small()
        report = load_pretrained(model, source)
        assert torch.equal(model.conv1.weight, net.conv1.weight)
    assert (report.path, len(site.asked)) == (hub / file.name, 1)
    assert list(report.skipped) == ["fc.weight", "fc.bias"]


def test_a_download_with_a_wrong_digest_is_deleted(published, hub):
    _, file = published
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is not the file that was published: its sha256 begins with"):
        load_pretrained(small(), "imagenet")
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize(
    "source, name", [("imagenet", "resnet50-0676ba61.pth"), ("imagenet_v2", "resnet50-11ad3fa6.pth")]
)
def test_offline_the_error_names_the_weights_file_and_its_folder(hub, source, name):
    with pytest.raises(CheckpointError, match=f"put {name} into {hub}, or set model.pretrained=none"):
        imagenet.weights_file("resnet50", source)


def test_a_file_that_was_put_in_place_is_verified(hub):
    hub.mkdir(parents=True)
    path = hub / "resnet18-f37072fd.pth"
    torch.save(small().state_dict(), path)
    with pytest.raises(CheckpointError, match=f"{path}: damaged, its sha256 is "):
        load_pretrained(small(), "imagenet")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_weights_that_torchvision_does_not_have_are_refused(backbone):
    with pytest.raises(ConfigError, match=f"torchvision has no imagenet_v2 weights of {backbone}; use `imagenet`"):
        imagenet.weights_file(backbone, "imagenet_v2")


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "mobilenet_v2"])
@pytest.mark.parametrize("source, version", imagenet.VERSIONS.items())
def test_both_recipes_are_torchvisions(backbone, source, version):
    assert imagenet._url(backbone, source) == get_model_weights(backbone)[version].url
