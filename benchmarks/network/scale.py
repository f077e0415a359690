"""The sizes of the measurements: those of training on a GPU or on a CPU, or small ones for a rehearsal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

import configs
from benchmarks.network.timing import Clock
from configs import Config
from engine import runtime
from models.shift import measured
from models.shift.conv import FORMS, Form, ShiftedConv2d, shift_then_conv
from models.shift.forms import shift_copy

Precision = Literal["fp16", "bf16", "fp32"]
FORMS_MEASURED: dict[str, Form] = {
    "auto": FORMS["auto"],
    "folded": FORMS["folded"],
    "copied": partial(shift_then_conv, shift_copy),
    "where": FORMS["where"],
    "reference": FORMS["reference"],  # what MIT's TSM does: slices assigned into zeros, with autograd's own gradient
}


@dataclass(frozen=True)
class Scale:
    """The sizes of all measurements at one scale."""

    device: Literal["cuda", "cpu"]
    precisions: tuple[Precision, ...]
    clips: int
    size: int
    width: int
    frames: int
    rounds: int  # maximum repeats, alternating with the other cases of a group
    repeats: int  # of one layer, in one round
    steps: int  # of training, in one round
    warmup: int  # steps before the first round
    compiles: bool

    def config(self, precision: Precision, *overrides: str) -> Config:
        """Return the usual recipe at this scale, with clips that stay in memory."""
        return runtime.resolve(
            configs.load(
                "tsm_k400_nhwc.yaml",
                [
                    "data.source=synthetic",
                    "data.val=",
                    "model.pretrained=none",
                    f"model.width={self.width}",
                    f"model.frames={self.frames}",
                    f"clip.size={self.size}",
                    f"eval.short_side={self.size}",
                    f"train.batch={self.clips}",
                    f"runtime.device={self.device}",
                    f"runtime.precision={precision}",
                    *overrides,
                ],
            )
        )

    @property
    def clock(self) -> Clock:
        return Clock(torch.device(self.device))


GPU = Scale(
    "cuda",
    ("fp16", "bf16"),
    clips=64,
    size=224,
    width=64,
    frames=8,
    rounds=15,
    repeats=5,
    steps=2,
    warmup=5,
    compiles=True,
)
CPU = Scale(
    "cpu",
    ("fp32", "bf16"),
    clips=1,
    size=224,
    width=64,
    frames=8,
    rounds=9,
    repeats=3,
    steps=1,
    warmup=1,
    compiles=False,
)
SMALL = Scale(
    "cpu", ("fp32",), clips=2, size=32, width=8, frames=4, rounds=2, repeats=1, steps=1, warmup=1, compiles=False
)
SCALES = {"gpu": GPU, "cpu": CPU, "small": SMALL}


def use_table(folder: Path) -> None:
    """Let `auto` choose by the table just measured, if there is one."""
    table = folder / measured.FILE.name
    if table.exists():
        measured.FILE = table
        measured.forget()


def set_form(model: torch.nn.Module, form: Form | None) -> None:
    """Set the form of every shifted convolution of a network, if it has any."""
    for part in model.modules():
        if isinstance(part, ShiftedConv2d):
            part.form = form
