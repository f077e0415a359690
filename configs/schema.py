"""The complete configuration of a run, and the checks across its sections.

A section (`configs.sections`) is a frozen dataclass, which defines the defaults. A setting without a default (MISSING)
must be in the recipe. A section checks its own settings, `Config` checks across sections. Checks yield problems and
never raise, so that all mistakes of a recipe are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from configs.checks import Problem, check_finite
from configs.sections.data import Clip, Data, Eval
from configs.sections.model import Model
from configs.sections.training import Optim, Runtime, Train

WINDOW = 64  # frames of a video that a dense clip spans
__all__ = ["Clip", "Config", "Data", "Eval", "Model", "Optim", "Runtime", "Train"]


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    clip: Clip = field(default_factory=Clip)
    eval: Eval = field(default_factory=Eval)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def eval_size(self) -> int:
        """Side of the evaluation crop, in pixels."""
        return self.eval.short_side if self.eval.size == "full" else self.eval.size or self.clip.size

    @property
    def eval_frames(self) -> int:
        """Frames per clip in evaluation."""
        of_ten_crops = self.eval.ten_crop_frames if self.eval.crops == "ten" else 0
        return self.eval.frames or of_ten_crops or self.model.frames

    def derived_from_data(self) -> list[str]:
        """Return the keys of settings that train.py derives from data.train."""
        open_values = {
            "model.num_classes": not self.model.num_classes,
            "model.dropout": self.model.dropout == "auto",
            "model.fc_std": self.model.fc_std == "auto",
            "data.val": self.data.val == "auto",
            "optim.lr": not self.optim.lr,
            "train.name": self.train.name == "auto",
            "train.epochs": not self.train.epochs,
            "train.batch": not self.train.batch,
        }
        return [key for key, is_open in open_values.items() if is_open]

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the values, within sections and across them."""
        for section in fields(self):
            values = getattr(self, section.name)
            for name, problem in (*check_finite(values), *values.problems()):
                yield f"{section.name}.{name}", problem
        smallest = min(self.clip.size, self.eval_size)
        if self.model.non_local and smallest < 32:
            yield "clip.size", f"{smallest} px leave the non-local blocks nothing to pool; they need at least 32"
        if self.eval_size > self.eval.short_side:
            yield (
                "eval.short_side",
                f"a crop of {self.eval_size} px does not fit in a short side of {self.eval.short_side} px; "
                f"raise eval.short_side to at least {self.eval_size}",
            )
        if self.clip.snap and self.data.decoder == "jpeg":
            yield "clip.snap", "pictures in folders cost the same, one as the other; leave it at 0"
        for name, frames in (("clip", self.model.frames), ("eval", self.eval_frames)):
            if getattr(self, name).sampling == "dense" and frames > WINDOW:
                yield f"{name}.sampling", f"a dense clip has {WINDOW} frames at most, not {frames}; use uniform"
        yield from self._flipping_problems()
        yield from self._norm_problems()
        for name in ("frames", "ten_crop_frames"):
            if not self.model.any_frames and getattr(self.eval, name) not in (0, self.model.frames):
                remedy = f"a TSM shifts over clips of model.frames={self.model.frames}; leave eval.{name} at 0"
                yield f"eval.{name}", remedy

    def _norm_problems(self) -> Iterator[Problem]:
        if self.train.partial_bn and self.model.non_local:
            yield "train.partial_bn", "would keep new non-local blocks at zero, where they start; set it to false"
        for setting, unset in (("partial_bn", False), ("freeze", "none")):
            if getattr(self.train, setting) != unset and self.runtime.batchnorm == "apex":
                yield f"train.{setting}", "apex's batch norms cannot be kept as they are; set runtime.batchnorm=torch"
        if self.train.freeze != "none" and not self.model.backbone.startswith("resnet"):
            yield "train.freeze", f"{self.model.backbone} has no such stages; leave it at none"
        for setting in ("sync_bn", "precise_bn"):
            if getattr(self.train, setting) and self.runtime.batchnorm == "apex":
                yield f"train.{setting}", "is not for apex's batch norms; set runtime.batchnorm=torch"

    def _flipping_problems(self) -> Iterator[Problem]:
        pairs = self.clip.flip_pairs
        if pairs and 0 < self.model.num_classes <= max(pairs):  # 0: not counted yet
            yield "clip.flip_pairs", f"{max(pairs)} is not a label below model.num_classes={self.model.num_classes}"
        if pairs and self.eval.crops == "ten":
            yield "eval.crops", "five of the ten are mirrored, which clip.flip_pairs says changes labels; use three"
