"""Count what a training step launches and copies on the host: python benchmarks/network/launches.py --out FOLDER

A step with few clips on a GPU waits for the host, which launches kernels one by one. Each operator that writes
something counts as one launch. The step is traced on fake tensors under autocast: forward and backward pass, clipping,
SGD and the sums for the log. The operators of the folded shift count as the kernels that they launch on a GPU
(`KERNELS`). Two cases of each network: `as autograd and autocast do it`, where each batch norm counts
its batches and each weight is cast alone, and `as trained`.

`frames` counts the bytes of one batch of decoded frames that the thread which launches kernels copies, and those that
it hands to DALI where decoding threads wrote them.

Writes one JSON line per case to stdout and to launches.jsonl in the folder `--out`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.harness.arguments import add_clips, add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    add_clips(parser, 8)
    add_out(parser, "launches.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import configs
from benchmarks.harness.numbered_videos import with_set
from benchmarks.harness.record import Recorder
from benchmarks.network.bytes import SHIFTS, UNTOUCHED, WITHOUT, is_view
from benchmarks.network.scale import set_form
from configs.schema import Model, Optim
from dali_pipes import Batch, Shard
from dali_pipes.feed.buffers import BufferPool
from dali_pipes.feed.choice import Choice
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.graph import GraphForm
from dali_pipes.feed.samples import columns
from dali_pipes.scan.build import load_catalog
from dali_pipes.views.plans import TrainPlan
from engine.train import norms, optim
from engine.train.step import StepSettings, Tally, label_loss, no_mixing, train_step
from models import build_model, casting
from models.shift.conv import Form

CASES = {"as autograd and autocast do it": False, "as trained": True}
KERNELS = {  # of the folded shift on a GPU: casts of the weight, the products, the sum of partial sums, a copy
    "shift_conv1x1": 2,
    "shift_conv1x1_input_grad": 2,
    "shift_conv1x1_weight_grad": 3,
}
NONE = {*UNTOUCHED, "lift_fresh"}  # operators that write nothing
LARGEST = 12
FRAMES = 3  # place of the decoded frames among the inputs of the graph


class Launches(TorchDispatchMode):
    """Counts the operators that write something, by name, while it is active. Works with fake tensors."""

    def __init__(self):
        super().__init__()
        self.launches: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        outputs = operator(*args, **(kwargs or {}))
        self.launches[operator.name().partition("::")[2]] += launched(operator, (args, kwargs), outputs)
        return outputs


def launched(operator, inputs: tuple, outputs) -> int:
    """Return the number of kernels that one call of an operator launches: none if it writes nothing."""
    name = operator.overloadpacket.__name__
    read, written = ([leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in (inputs, outputs))
    if name in NONE or is_view(operator, read, written) or not (written or operator._schema.is_mutable):
        return 0
    return KERNELS.get(name, 1)


def count(settings: Model, form: Form | None, clips: int, size: int, together: bool) -> Counter[str]:
    """Count the launches of one step on `clips` clips of side `size`. `together`: as training does it."""
    with FakeTensorMode(allow_non_fake_inputs=True), _casts(together):
        model = build_model(settings).train()
        for parameter in model.parameters():  # fake tensors cannot be converted by .to()
            if parameter.ndim == 4:
                parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last)
        set_form(model, form)
        counts = norms.count_together(model) if together else []
        optimizer, tally = optim.make_optimizer(model, Optim(lr=0.1)), Tally(torch.device("cpu"))
        clips_BVTHWC = torch.empty(clips, 1, settings.frames, size, size, 3, dtype=torch.bfloat16)
        label_B = torch.zeros(clips, dtype=torch.int64)
        step = StepSettings(
            lambda step: 0.1, no_mixing, partial(label_loss, smoothing=0.1), max_norm=20.0, autocast=_autocast
        )
        scaler = torch.amp.GradScaler("cpu")
        with Launches() as seen:
            batch = Batch(clips_BVTHWC.movedim(-1, 3), label_B, label_B)
            train_step(model, optimizer, scaler, batch, 0, step, tally)
            if counts:
                torch._foreach_add_(counts, 1)
    return seen.launches


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def _casts(together: bool):
    """Return a context in which weights are cast together, as in training, or each alone by autocast."""
    return nullcontext() if together else mock.patch.object(casting, "apply", lambda part, x_NCHW: part(x_NCHW))


def compare(backbone: str, frames: int, clips: int, size: int) -> Iterator[tuple[str, dict]]:
    """Yield the name and the counts of each network, both ways."""
    about = {"backbone": backbone, "frames": frames, "clips": clips, "size": size}
    for network, form in {WITHOUT: None, **SHIFTS}.items():
        settings = Model(name="tsm" if form else "tsn", backbone=backbone, frames=frames, num_classes=400)
        for case, together in CASES.items():
            launches = count(settings, form, clips, size, together)
            yield (
                f"step/{network}/{case}",
                about
                | {
                    "launches": launches.total(),
                    "largest": dict(launches.most_common(LARGEST)),
                },
            )


class _Lender(BufferPool):
    """A pool that remembers the arrays it has given out."""

    def __init__(self):
        super().__init__()
        self.lent: list[np.ndarray] = []

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        self.lent.append(super().array(shape))
        return self.lent[-1]


def copied_frames(folder: Path) -> dict[str, int]:
    """Count the bytes of decoded frames that threads wrote into memory of the pool, which DALI reads, and of others."""
    words = ["data.val=", "model.pretrained=none", "data.decoder=pyav", "runtime.device=cpu", "train.batch=16"]
    config = with_set(configs.load("tsm_k400_nhwc.yaml", words), folder, {"count": "64", "frames": "64"})
    catalog, pool = load_catalog(config.data.train, config.data), _Lender()
    plan, choice = TrainPlan(config, catalog, Shard()), Choice(catalog, config.data, torch.device("cpu"))
    feeder = Feeder(plan, choice.of_batch, 2, buffers=pool)
    with closing(feeder), closing(feeder.batches(plan.places(0, 0), 1)) as batches:
        handed = columns(next(batches).samples, GraphForm())[FRAMES]
    lent = [any(np.shares_memory(array, memory) for memory in pool.lent) for array in handed]
    return {
        "handed_bytes": sum(array.nbytes for array, there in zip(handed, lent, strict=True) if there),
        "copied_bytes": sum(array.nbytes for array, there in zip(handed, lent, strict=True) if not there),
        "clips": plan.batch,
    }


def main(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("launches", arguments.out / "launches.jsonl")
    for name, counted in compare(arguments.backbone, arguments.frames, arguments.clips, arguments.size):
        recorder.add(name, **counted)
    with tempfile.TemporaryDirectory() as folder:
        recorder.add("frames", **copied_frames(Path(folder)))
    recorder.close()


if __name__ == "__main__":
    main(ARGUMENTS)
