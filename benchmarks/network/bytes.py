"""Count the memory traffic of a training step: python benchmarks/network/bytes.py --out benchmarks/results

The step of a 2-D network is limited by memory bandwidth, so the bytes moved predict the cost of each form of the shift
on a GPU without running on one. The forward and backward pass run on fake tensors under autocast to bf16, and every
low-level operator is counted as reading its inputs and writing its outputs once. Known exceptions are counted as they
are: batch norm reads its input twice, the two gradients of a convolution each read the gradient of its output, and the
folded weight gradient has partial sums. Caches and the optimizer are not counted.

The traffic of a compiled step is computed from the same counts: a compiler fuses ReLUs and residual additions into the
batch norms next to them (`FUSED`). `--keep` writes that of a network without a shift as the row of
engine/compile_table.jsonl that serves a GPU on which nothing was measured.

Writes one JSON line per form of the shift to stdout and to bytes.jsonl in the folder `--out`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.harness.arguments import add_clips, add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    add_clips(parser, 64)
    add_out(parser, "bytes.jsonl")
    parser.add_argument("--keep", action="store_true", help="write the row of engine/compile_table.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.harness.record import Recorder
from benchmarks.network.scale import set_form
from configs.schema import Model
from engine import compile_table
from models import build_model
from models.shift import gpu_kernels
from models.shift.conv import FORMS, Form, shift_then_conv
from models.shift.forms import shift_copy

WITHOUT = "no shift (TSN)"
SHIFTS: dict[str, Form] = {
    "as published by MIT": FORMS["reference"],
    "copied": partial(shift_then_conv, shift_copy),
    "folded into conv1": FORMS["folded"],
}

UNTOUCHED = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}  # nothing is written yet
OVERWRITING = {"copy_", "zero_", "fill_", "zeros_like", "ones_like"}  # operators that do not read their first input
TWICE = {  # indices of inputs that are read twice
    "native_batch_norm": (0,),  # statistics, then values
    "native_batch_norm_backward": (0, 1),
    "convolution_backward": (0,),  # for the gradient of the input, and for that of the weight
}

FUSED = {  # the part of an operator's traffic that is left once it is fused into a batch norm
    "relu_": 0,  # the norm writes the result
    "add_": 1 / 3,  # the norm reads one more input
    "threshold_backward": 2 / 3,  # the norm's gradient, in two passes, reads where the ReLU was active
}


class Traffic(TorchDispatchMode):
    """Counts bytes by operator while it is active. Works with fake tensors."""

    def __init__(self):
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        outputs = operator(*args, **(kwargs or {}))
        self.bytes[operator.overloadpacket.__name__] += moved(operator, (args, kwargs), outputs)
        return outputs


def moved(operator, inputs: tuple, outputs) -> int:
    """Return the bytes read and written by one call of an operator."""
    name = operator.overloadpacket.__name__
    read, written = ([leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in (inputs, outputs))
    if name.startswith("_foreach_") and not written:  # in place: the first list is written
        written, read = (tree_leaves(inputs[0][0]), tree_leaves(inputs[0][1:]))
        read += [] if name == "_foreach_copy_" else written
        read = [leaf for leaf in read if isinstance(leaf, Tensor)]
    if not written or name in UNTOUCHED or is_view(operator, read, written):
        return 0
    if name in OVERWRITING:
        read = read[1:]
    read += [inputs[0][number] for number in TWICE.get(name, ())]
    return sum(map(held, read + written)) + partial_sums(name, inputs[0])


def is_view(operator, read: list[Tensor], written: list[Tensor]) -> bool:
    """Return True if an operator returns a view of its input."""
    storages = {tensor.untyped_storage()._cdata for tensor in read}
    return not operator._schema.is_mutable and any(tensor.untyped_storage()._cdata in storages for tensor in written)


def held(tensor: Tensor) -> int:
    """Return the bytes of a tensor, counting expanded values once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return tensor.element_size() * math.prod(sizes)


def partial_sums(name: str, args: tuple) -> int:
    """Return the bytes of the fp32 partial sums that the folded weight gradient writes and reads on a GPU."""
    if name != "shift_conv1x1_weight_grad":
        return 0
    x_NCHW, dy_NOHW, *_ = args
    channels, filters = x_NCHW.shape[1], dy_NOHW.shape[1]
    _, _, rows_of_part = gpu_kernels.split(x_NCHW, filters)
    parts = math.ceil(x_NCHW.numel() / channels / rows_of_part)
    return 2 * 4 * parts * channels * filters


def count(settings: Model, form: Form | None, clips: int, size: int) -> Counter[str]:
    """Count bytes by operator in the forward and backward pass of one step on `clips` clips of side `size`."""
    with FakeTensorMode():
        model = build_model(settings).train()
        set_form(model, form)
        clips_BTHWC = torch.empty(clips, settings.frames, size, size, 3, dtype=torch.bfloat16)
        label_B = torch.zeros(clips, dtype=torch.int64)
        with Traffic() as traffic:
            with torch.autocast("cpu", torch.bfloat16):
                logits_BK = model(clips_BTHWC.movedim(-1, 2))
            F.cross_entropy(logits_BK.float(), label_B).backward()
    return traffic.bytes


def fused(by_operator: Counter[str]) -> float:
    """Return the bytes that a compiled step moves, of the counts of an eager one."""
    return sum(count * FUSED.get(name, 1) for name, count in by_operator.items())


def compare(backbone: str, frames: int, clips: int, size: int) -> Iterator[tuple[str, dict]]:
    """Yield the name and the counts of the network without a shift and with each form of it."""
    about = {"backbone": backbone, "frames": frames, "clips": clips, "size": size}
    pictures, plain = frames * clips, 0
    for name, form in {WITHOUT: None, **SHIFTS}.items():
        settings = Model(name="tsm" if form else "tsn", backbone=backbone, frames=frames, num_classes=400)
        by_operator = count(settings, form, clips, size)
        total = by_operator.total()
        plain = plain or total
        largest = {key: round(value / pictures / 1e6, 2) for key, value in by_operator.most_common(12)}
        compiled = fused(by_operator) / pictures / 1e6
        counted = {
            "mb_per_picture": total / pictures / 1e6,
            "compiled_mb_per_picture": compiled,
            "over_none": total / plain,
            "largest": largest,
        }
        yield name, about | counted


def main(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("bytes", arguments.out / "bytes.jsonl")
    for name, counted in compare(arguments.backbone, arguments.frames, arguments.clips, arguments.size):
        recorder.add(name, **counted)
        if arguments.keep and name == WITHOUT:
            eager, compiled = (round(counted[key], 1) for key in ("mb_per_picture", "compiled_mb_per_picture"))
            compile_table.add(
                {"device": compile_table.ANY_GPU, "precision": "half", "eager_mb": eager, "compiled_mb": compiled}
            )
    recorder.close()


if __name__ == "__main__":
    main(ARGUMENTS)
