"""mmaction2's names for ResNets, and the differences of its non-local blocks."""

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


def without_copies(weights: Weights) -> Weights:
    """Return the weights without the second copy of each that mmcv 1.x stores as `ema_NAME`, with _ for dots.

    One copy is averaged (EMA). mmcv exchanges both between epochs, and which of them is saved with the plain names
    depends on the order of its hooks. It tests those.
    """
    copies = {f"ema_{name.replace('.', '_')}" for name in weights}
    return {name: tensor for name, tensor in weights.items() if name not in copies}


def absent_biases(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Yield zeros for the biases before the last norm of non-local blocks, which mmaction2's do not have."""
    for key, tensor in weights.items():
        if key.endswith(".nl.W.0.weight"):
            zeros = torch.zeros(()).expand(tensor.shape[:1])  # takes memory only once its length is known to fit
            yield key.removesuffix("weight") + "bias", zeros


def settings_in(meta: object) -> dict[str, object]:
    """Return the share of channels that the network shifts, if the settings in `meta`, as text, contain it."""
    texts = [text for text in meta.values() if isinstance(text, str)] if isinstance(meta, dict) else []
    shares = {int(share) for text in texts for share in re.findall(r"shift_div\W{1,4}([0-9]{1,3})\b", text)}
    return {"model.shift_div": shares.pop()} if len(shares) == 1 else {}


def refuse_other_attention(weights: Weights, meta: object, path: Path) -> None:
    """Raise CheckpointError for non-local blocks that compute something other than ours.

    The tensors do not show it; only the settings in `meta`, as text, do. mmaction2's blocks scale by default.
    """
    if not any(".nl." in key for key in weights):
        return
    for text in meta.values() if isinstance(meta, dict) else ():
        if not isinstance(text, str):
            continue
        if re.search(r"mode\W{1,4}dot_product", text):
            raise CheckpointError(
                f"{path}: its non-local blocks use mode='dot_product'; this project has softmax only "
                "(mode='embedded_gaussian')"
            )
        by_default = "non_local_cfg" in text and "use_scale" not in text
        if by_default or re.search(r"use_scale\W{1,4}true", text, re.IGNORECASE):
            raise CheckpointError(
                f"{path}: its non-local blocks divide by the square root of their channels (use_scale=True); those of "
                "this project do not (use_scale=False)"
            )
