"""Apply the drawn augmentations to the clips of a batch with torchvision's functions, on the device of the clips.

It runs after decoding and clip making, so that one implementation serves all decoders. Pixels are rounded to bytes
first, because torchvision's transforms expect bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from configs.schema import Config
from dali_pipes.views import augment
from dali_pipes.views.augment import Augmentation

JITTER: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


class Augmenter:
    """Augments training clips according to the recipe (clip.color_jitter, clip.randaugment, clip.erase)."""

    def __init__(self, config: Config, device: torch.device):
        self._clip, self._seed = config.clip, config.train.seed
        self._mean_3, self._std_3 = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (config.clip.mean, config.clip.std)
        )

    def __call__(self, clips_BTHWC: Tensor, epoch: int, number_B: np.ndarray) -> Tensor:
        """Return the augmented clips; `clips_BTHWC` are normalised and not modified. `number_B`: see `draw.py`."""
        augmented_BTHWC = torch.empty_like(clips_BTHWC)
        drawn = augment.draw(self._clip, self._seed, epoch, number_B)
        for clip_THWC, target_THWC, augmentation in zip(clips_BTHWC, augmented_BTHWC, drawn, strict=True):
            target_THWC.copy_(self._augmented(clip_THWC.permute(0, 3, 1, 2), augmentation).permute(0, 2, 3, 1))
        return augmented_BTHWC

    def _augmented(self, clip_TCHW: Tensor, augmentation: Augmentation) -> Tensor:
        pixels_TCHW = (clip_TCHW.float() * self._std_3 + self._mean_3).mul_(255).round_().clamp_(0, 255).byte()
        for name, factor in augmentation.jitters:
            pixels_TCHW = JITTER[name](pixels_TCHW, factor)
        for name, magnitude in augmentation.operations:
            pixels_TCHW = operate(pixels_TCHW, name, magnitude)
        clip_TCHW = (pixels_TCHW.float().div_(255) - self._mean_3).div_(self._std_3)
        if augmentation.erased:
            left, top, right, bottom = augmentation.erased
            clip_TCHW[:, :, top:bottom, left:right] = 0
        return clip_TCHW


def operate(pixels_TCHW: Tensor, operation: str, magnitude: float) -> Tensor:
    """Apply an operation of RandAugment to the pixels of all frames; uncovered areas become black."""
    degrees = math.degrees(math.atan(magnitude))
    affine = {
        "ShearX": {"shear": [degrees, 0.0], "center": [0.0, 0.0]},
        "ShearY": {"shear": [0.0, degrees], "center": [0.0, 0.0]},
        "TranslateX": {"translate": [int(magnitude), 0]},
        "TranslateY": {"translate": [0, int(magnitude)]},
    }
    if operation in affine:
        still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        return F.affine(pixels_TCHW, **still | affine[operation])
    others: dict[str, Callable[[Tensor], Tensor]] = {
        "Identity": lambda x: x,
        "Rotate": lambda x: F.rotate(x, angle=magnitude),
        "Brightness": lambda x: F.adjust_brightness(x, 1 + magnitude),
        "Color": lambda x: F.adjust_saturation(x, 1 + magnitude),
        "Contrast": lambda x: F.adjust_contrast(x, 1 + magnitude),
        "Sharpness": lambda x: F.adjust_sharpness(x, 1 + magnitude),
        "Posterize": lambda x: F.posterize(x, bits=int(magnitude)),
        "Solarize": lambda x: F.solarize(x, threshold=255 * magnitude),
        "AutoContrast": F.autocontrast,
        "Equalize": F.equalize,
    }
    return others[operation](pixels_TCHW)
