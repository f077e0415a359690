"""mmaction2's way with the same networks: its names for ResNets, and its non-local blocks."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CheckpointError

Weights = dict[str, Tensor]

RULES = (
    (r"^(backbone|cls_head)\.", ""),
    (r"^fc_cls\.", "fc."),
    (r"\.block\.", "."),
    (r"\.non_local_block\.conv_out\.conv\.", ".nl.W.0."),
    (r"\.non_local_block\.conv_out\.bn\.", ".nl.W.1."),
    (r"\.non_local_block\.(theta|phi\.0|g\.0)\.conv\.", r".nl.\1."),
    (r"\bconv(\d)\.conv\.", r"conv\1."),
    (r"\bconv(\d)\.bn\.", r"bn\1."),
    (r"\bdownsample\.conv\.", "downsample.0."),
    (r"\bdownsample\.bn\.", "downsample.1."),
)


def absent_biases(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Biases that MIT's and our non-local blocks have before their last norm, and mmaction2's do without: zeros."""
    for key, tensor in weights.items():
        if key.endswith(".nl.W.0.weight"):
            zeros = torch.zeros(()).expand(tensor.shape[:1])  # not in memory before this length is known to fit
            yield key.removesuffix("weight") + "bias", zeros


def refuse_dot_product(weights: Weights, meta: object, path: Path) -> None:
    """Non-local blocks have the same tensors whatever they compute; only the settings beside them, as text, tell."""
    texts = [text for text in meta.values() if isinstance(text, str)] if isinstance(meta, dict) else []
    asked = any(re.search(r"mode\W{1,4}dot_product", text) for text in texts)
    if asked and any(".nl." in key for key in weights):
        raise CheckpointError(
            f"{path}: its non-local blocks weigh by dot product, and those of this project by softmax "
            "(mode='embedded_gaussian')"
        )
