"""Draw augmentations: the pixel operations of each training clip, the same for all of its frames.

Like the draws of `draw.py`, they depend only on (seed, epoch, number of the clip).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from configs.schema import Clip
from dali_pipes.views import crops, randomness

OPERATIONS = (  # of RandAugment (Cubuk et al., arXiv 1909.13719), in torchvision's order
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
SIGNED = OPERATIONS[1:10]  # operations with signed magnitudes
BINS = 31  # of magnitudes, from 0 to 30
JITTERS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Augmentation:
    """Augmentations of one clip, in the order in which they are applied."""

    jitters: tuple[tuple[str, float], ...] = ()  # (name in JITTERS, factor)
    operations: tuple[tuple[str, float], ...] = ()  # (name in OPERATIONS, magnitude)
    erased: tuple[int, int, int, int] | None = None  # left, top, right, bottom


def augments(clip: Clip) -> bool:
    """Return True if a recipe has pixel augmentations."""
    return bool(clip.randaugment or clip.erase or any(clip.color_jitter))


def draw(clip: Clip, seed: int, epoch: int, number_B: np.ndarray) -> list[Augmentation]:
    """Draw the augmentation of each clip, given by its number within an epoch."""
    uniform = partial(randomness.uniform, seed, epoch, number_B)
    jitter_B8 = uniform(randomness.JITTER, 2 * len(JITTERS)).tolist()
    operation_BN = uniform(randomness.AUGMENT, 2 * max(clip.randaugment, 1)).tolist()
    erase_B23 = uniform(randomness.ERASE, 3 + 2 * crops.TRIES)
    box_B4, fits_B = crops.of_area(clip.size, clip.size, erase_B23[:, 1:], area=(0.02, 0.33), ratio=(0.3, 3.3))
    erased_B = (erase_B23[:, 0] < clip.erase) & fits_B
    return [
        Augmentation(
            _jitters(clip.color_jitter, jitter_8),
            _operations(clip, operation_N),
            tuple(box_4) if erased else None,
        )
        for jitter_8, operation_N, erased, box_4 in zip(
            jitter_B8, operation_BN, erased_B.tolist(), box_B4.tolist(), strict=True
        )
    ]


def magnitude(operation: str, number: int, size: int) -> float:
    """Return torchvision's value of a magnitude from 0 to 30 for frames of `size` px; 0 for operations without a
    magnitude.
    """
    part = number / (BINS - 1)
    largest = {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30.0, "Solarize": 1.0}
    if operation.startswith("Translate"):
        return 150 / 331 * size * part
    if operation == "Posterize":
        return 8 - round(number / ((BINS - 1) / 4))
    if operation == "Solarize":
        return 1 - part
    if operation in ("Identity", "AutoContrast", "Equalize"):
        return 0.0
    return largest.get(operation, 0.9) * part


def _jitters(strengths: tuple[float, ...], draw_8: list[float]) -> tuple[tuple[str, float], ...]:
    """Return the colour jitters of a clip in random order; factors are around 1, the hue shift around 0."""
    order = np.argsort(draw_8[:4]).tolist()
    found = []
    for number in order:
        strength, part = strengths[number], draw_8[4 + number]
        low, high = (-strength, strength) if JITTERS[number] == "hue" else (max(0.0, 1 - strength), 1 + strength)
        if strength:
            found.append((JITTERS[number], low + (high - low) * part))
    return tuple(found)


def _operations(clip: Clip, draw_N: list[float]) -> tuple[tuple[str, float], ...]:
    """Return the operations of RandAugment; the sign of a magnitude is drawn."""
    found = []
    for which, sign in zip(draw_N[::2], draw_N[1::2], strict=True):
        operation = OPERATIONS[int(which * len(OPERATIONS))]
        value = magnitude(operation, clip.randaugment_magnitude, clip.size)
        found.append((operation, -value if operation in SIGNED and sign < 0.5 else value))
    return tuple(found[: clip.randaugment])
