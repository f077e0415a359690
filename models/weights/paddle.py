"""Paddle's names and arrays, and the conversion of PaddleVideo's TSM, whose shift has the opposite direction.

In PaddleVideo the first channels take the previous frame, the following ones the next frame. Channels can be reordered
where they are written if they are reordered wherever they are read: with the two folds swapped in every tensor along
the residual stream, the same network shifts as ours does.
"""

import re

import numpy as np
import torch
from torch import Tensor

from models.errors import CheckpointError

Weights = dict[str, Tensor]

PIECES = "UnpackBigParamInfor@@"  # describes how to join the pieces of large arrays
NOTES = (PIECES, "StructuredToParameterName@@")  # entries of a file that are not tensors


def _block(match: re.Match) -> str:
    """Rename a block: `res3c` is block 2 of the second stage; in long stages, `res4b7` is block 7 of the third."""
    stage, letter, number = match.groups()
    return f"layer{int(stage) - 1}.{number or ord(letter) - ord('a')}."


def _counted_from_one(kind: str):
    return lambda match: f".{kind}{int(match[1]) + 1}."


def _stem(match: re.Match) -> str:
    """Rename a layer of ResNet-vd's stem: `conv1_2._conv` is conv1.3, its norm conv1.4; the last norm is bn1."""
    number, norm = int(match[1]), match[2] == "_batch_norm"
    return "bn1." if norm and number == 3 else f"conv1.{3 * (number - 1) + norm}."


RULES = (
    (r"^backbone\.", ""),
    (r"^(head\.)?(fc|out)\.", "fc."),
    (r"^conv\._conv\.", "conv1."),
    (r"^conv\._batch_norm\.", "bn1."),
    (r"^conv1_(\d)\.(_conv|_batch_norm)\.", _stem),
    (r"^res(\d)([a-z])(\d*)\.", _block),
    (r"^bb_(\d)_(\d+)\.", lambda match: f"layer{int(match[1]) + 1}.{match[2]}."),
    (r"\.conv(\d)\._conv\.", _counted_from_one("conv")),
    (r"\.conv(\d)\._batch_norm\.", _counted_from_one("bn")),
    (r"\.short\._conv\.", ".downsample.0."),
    (r"\.short\._batch_norm\.", ".downsample.1."),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
)
# In ResNet-vd, a pooling layer precedes the convolution and the norm of a skip connection.
VD_RULES = (*RULES, (r"\.downsample\.(\d)\.", lambda match: f".downsample.{int(match[1]) + 1}."))
LEAKY_SLOPE = 0.01  # of PP-TSM; PP-TSN has ReLUs

# The axes of tensors along the residual stream of a bottleneck ResNet: written along axis 0, read along axis 1.
STREAM = (
    (r"conv1(\.6)?\.weight|bn1\..*", (0,)),
    (r"layer\d\.\d+\.conv1\.weight", (1,)),
    (r"layer\d\.\d+\.(conv3\.weight|bn3\..*)", (0,)),
    (r"layer\d\.0\.downsample\..*", (0, 1)),  # a norm's tensors have axis 0 only
    (r"fc\.weight", (1,)),
)


def swap_folds(weights: Weights, shift_div: int) -> tuple[Weights, int]:
    """Return the weights for a network that shifts as ours does, and the number of tensors that changed.

    Exact if PaddleVideo trained with `shift_div` frames, because it shifts 1/frames of the channels each way. Raises
    CheckpointError if it would have shifted one channel more one way than the other, which ours cannot.
    """
    swapped = dict(weights)
    for key, tensor in weights.items():
        for pattern, axes in STREAM:
            if re.fullmatch(pattern, key):
                for axis in (axis for axis in axes if axis < tensor.ndim):
                    swapped[key] = _swap(swapped[key], axis, shift_div)
    return swapped, sum(swapped[key] is not weights[key] for key in weights)


def _swap(tensor: Tensor, axis: int, shift_div: int) -> Tensor:
    channels = tensor.shape[axis]
    fold = channels // shift_div
    other_fold = 2 * channels // shift_div - fold
    if other_fold != fold:
        raise CheckpointError(
            f"of {channels} channels PaddleVideo shifts {fold} one way and {other_fold} the other at model.shift_div="
            f"{shift_div}, which no model here does; weights trained with 4, 8 or 16 frames can be converted"
        )
    before, after, same = tensor.split([fold, fold, channels - 2 * fold], axis)
    return torch.cat([after, before, same], axis)


def shifted_layers(weights: Weights) -> frozenset[str]:
    """Return the layers that read shifted input in PaddleVideo's TSM: the first of every block, also in ResNet-101."""
    first = re.compile(r"(layer\d\.\d+\.conv1)\.weight")
    return frozenset(match[1] for key in weights if (match := first.fullmatch(key)))


def to_tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor. NumPy has no bfloat16, so Paddle writes it as uint16."""
    tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def join_pieces(entries: dict) -> dict:
    """Return the tensors among `entries`; join large arrays, which Paddle cuts into pieces below protocol 4.

    Raises ValueError or KeyError if the pieces do not fit their description.
    """
    whole = dict(entries)
    for key, note in entries.get(PIECES, {}).items():
        pieces = [whole.pop(name) for name in note["slices"]]
        whole[key] = np.concatenate(pieces).reshape(note["OriginShape"])
    return {key: value for key, value in whole.items() if key not in NOTES}
