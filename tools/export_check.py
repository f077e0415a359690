"""Whether an exported file answers as the network does that it was made from.

Shapes: N clips, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from configs import Config
from engine.card import Precision

BATCHES = (1, 2, 5)  # none but 2 was seen while tracing

# How far logits may be off, as a fraction of the largest. fp32: the order of sums; the others: rounding of every layer.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


@dataclass(frozen=True)
class Difference:
    """How the answers to one batch differ."""

    largest: float  # difference of two logits
    scale: float  # the largest logit
    agreeing: int  # clips with the same best class
    clips: int

    def __str__(self) -> str:
        return (
            f"batch {self.clips}: largest difference {self.largest:.1e} at logits up to {self.scale:.3g}, "
            f"same best class {self.agreeing} of {self.clips}"
        )


def differences(
    file: Callable[[Tensor], Tensor], eager: Callable[[Tensor], Tensor], config: Config
) -> Iterator[Difference]:
    """For each batch size, how `file` differs from `eager`. Both take pixels_NTHWC, uint8, and give logits_NK."""
    for clips in BATCHES:
        pixels_NTHWC = moving_pictures(clips, config.eval_frames, config.eval_size)
        actual_NK, expected_NK = file(pixels_NTHWC), eager(pixels_NTHWC)
        yield Difference(
            largest=float((actual_NK - expected_NK).abs().nan_to_num(torch.inf).max()),
            scale=float(expected_NK.abs().max()),
            agreeing=int((actual_NK.argmax(1) == expected_NK.argmax(1)).sum()),
            clips=clips,
        )


def moving_pictures(clips: int, frames: int, size: int) -> Tensor:
    """Pixels_NTHWC, uint8, of soft shapes that change from frame to frame; all noise is the same to a deep network."""
    generator = torch.Generator().manual_seed(clips)
    coarse_NCHW = torch.rand(clips * frames, 3, 5, 5, generator=generator)
    pixels_NCHW = 255 * F.interpolate(coarse_NCHW, (size, size), mode="bilinear")
    return pixels_NCHW.round().to(torch.uint8).unflatten(0, (clips, frames)).permute(0, 1, 3, 4, 2).contiguous()
