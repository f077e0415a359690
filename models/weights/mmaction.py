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


def refuse_other_attention(weights: Weights, meta: object, path: Path) -> None:
    """Raise CheckpointError for non-local blocks that compute something other than ours do.

    Their tensors are the same whatever they compute; only the settings beside them, as text, tell. mmaction2's blocks
    are scaled unless they are told not to be.
    """
    if not any(".nl." in key for key in weights):
        return
    for text in meta.values() if isinstance(meta, dict) else ():
        if not isinstance(text, str):
            continue
        if re.search(r"mode\W{1,4}dot_product", text):
            raise CheckpointError(
                f"{path}: its non-local blocks weigh by dot product, and those of this project by softmax "
                "(mode='embedded_gaussian')"
            )
        unsaid = "non_local_cfg" in text and "use_scale" not in text
        if unsaid or re.search(r"use_scale\W{1,4}true", text, re.IGNORECASE):
            raise CheckpointError(
                f"{path}: its non-local blocks divide by the root of their channels, and those of this project do not "
                "(use_scale=False)"
            )
