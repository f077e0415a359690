"""Tables from other projects' names for the layers of MobileNetV2 to torchvision's.

All of them build the same network: a stem, 17 inverted residual blocks in seven stages, and a last convolution. A block
has an expanding 1x1 convolution (not in the first stage), a depthwise one and a projecting 1x1 one, each with a norm.
"""

from collections.abc import Iterator

BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage
LAYERS = ("conv.0.0", "conv.0.1", "conv.1.0", "conv.1.1", "conv.2", "conv.3")
LAYERS_OF_FIRST = ("conv.0.0", "conv.0.1", "conv.1", "conv.2")


def _blocks() -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """Yield each block's stage, its place there, its number in torchvision's `features`, and its layers' names."""
    feature = 0
    for stage, count in enumerate(BLOCKS):
        for block in range(count):
            feature += 1
            yield stage, block, feature, LAYERS if stage else LAYERS_OF_FIRST


def mit() -> dict[str, str]:
    """Return MIT's names: the layers of a block are one flat list that counts activations."""
    flat = ("conv.0", "conv.1", "conv.3", "conv.4", "conv.6", "conv.7")
    names = {
        f"features.{feature}.{theirs}": f"features.{feature}.{ours}"
        for _, _, feature, layers in _blocks()
        for theirs, ours in zip(flat, layers, strict=False)
    }
    return names | {"classifier": "classifier.1", "new_fc": "classifier.1"}


def mmaction() -> dict[str, str]:
    """Return mmaction2's names: stages count from 1, and one module holds a convolution and its norm."""
    pairs = [f"conv.{number}.{part}" for number in range(3) for part in ("conv", "bn")]
    names = {
        f"layer{stage + 1}.{block}.{theirs}": f"features.{feature}.{ours}"
        for stage, block, feature, layers in _blocks()
        for theirs, ours in zip(pairs, layers, strict=False)
    }
    ends = {"conv1.conv": "0.0", "conv1.bn": "0.1", "conv2.conv": "18.0", "conv2.bn": "18.1"}
    return names | {theirs: f"features.{ours}" for theirs, ours in ends.items()} | {"fc_cls": "classifier.1"}


def timm() -> dict[str, str]:
    """Return timm's names, which tell the kind of a convolution."""
    whole = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
    of_first = ("conv_dw", "bn1", "conv_pw", "bn2")
    names = {
        f"blocks.{stage}.{block}.{theirs}": f"features.{feature}.{ours}"
        for stage, block, feature, layers in _blocks()
        for theirs, ours in zip(whole if stage else of_first, layers, strict=True)
    }
    ends = {"conv_stem": "0.0", "bn1": "0.1", "conv_head": "18.0", "bn2": "18.1"}
    return names | {theirs: f"features.{ours}" for theirs, ours in ends.items()} | {"classifier": "classifier.1"}
