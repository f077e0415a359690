"""Compare an exported file with its network.

Shapes: N clips, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.exported import ExportedNetwork, open_exported
from engine.inference.metadata import ExportMetadata, Precision
from engine.inference.saved_model import SavedModel, load_saved_model
from engine.inference.tensorrt import load_engine
from engine.runtime import exact_fp32
from models import CheckpointError

BATCHES = (1, 2, 5)  # tracing used 2
STREAMED = 8  # number of frames of a stream

# Largest allowed difference, as a fraction of the largest logit: fp32 for the order of sums, else for rounding.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


@dataclass(frozen=True)
class Difference:
    """The difference between the logits of one batch."""

    batch: int
    largest: float  # largest difference of two logits
    scale: float  # the largest logit
    agreeing: float  # fraction of clips with the same top class

    def __str__(self) -> str:
        return (
            f"batch {self.batch}: differs by at most {self.largest:.1e}, logits up to {self.scale:.3g}, "
            f"same top-1 in {100 * self.agreeing:.0f} %"
        )


def reopen(path: Path, metadata: ExportMetadata, device: str) -> ExportedNetwork:
    """Open an exported file as in inference."""
    if path.suffix == ".safetensors":
        model = load_saved_model(path).model
        return ExportedNetwork(path, "cpu", metadata, lambda clip: (model(clip),))
    if path.suffix == ".engine":
        return ExportedNetwork(path, device, metadata, load_engine(path, device))
    return open_exported(path, device)


def check(exported: ExportedNetwork, saved: SavedModel) -> None:
    """Print the difference for each batch size. Raises CheckpointError if precision does not explain it."""
    precision = exported.metadata.precision
    for batch in BATCHES:
        found = difference(exported, saved, batch)
        print(found)
        if not found.largest <= TOLERANCE[precision] * found.scale:  # this form also refuses nan
            raise CheckpointError(
                f"not kept: its logits differ from those of {saved.info.weights} by more than "
                f"{TOLERANCE[precision]:g} of the largest logit, which {precision} does not explain"
            )


@exact_fp32()
@torch.inference_mode()
def difference(exported: ExportedNetwork, saved: SavedModel, batch: int) -> Difference:
    """Compare the file's logits of a batch of clips with the network's, in eager mode and fp32."""
    config = saved.info.config
    frames = STREAMED if exported.metadata.online else config.eval_frames
    pixels_NTHWC = moving_shapes(batch, frames, config.eval_size)
    clips_NTCHW = _normalise(pixels_NTHWC, config.clip.mean, config.clip.std)
    inputs = pixels_NTHWC if exported.metadata.uint8 else clips_NTCHW
    if exported.metadata.online:
        actual, expected = exported.stream(inputs).cpu(), saved.model.frame_logits(clips_NTCHW)
    else:
        actual, expected = exported.run(inputs)[0].cpu(), saved.model(clips_NTCHW)
    return Difference(
        batch,
        largest=float((actual - expected).abs().max()),
        scale=float(expected.abs().max()),
        agreeing=float((actual.argmax(-1) == expected.argmax(-1)).float().mean()),
    )


def _normalise(pixels_NTHWC: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    clips_NTHWC = (pixels_NTHWC / 255 - torch.tensor(mean)) / torch.tensor(std)
    return clips_NTHWC.permute(0, 1, 4, 2, 3).contiguous()


def moving_shapes(clips: int, frames: int, size: int) -> Tensor:
    """Return uint8 pixels_NTHWC of soft moving shapes; for a deep network, all noise looks the same."""
    generator = torch.Generator().manual_seed(clips)
    coarse_NCHW = torch.rand(clips * frames, 3, 5, 5, generator=generator)
    pixels_NCHW = (255 * F.interpolate(coarse_NCHW, (size, size), mode="bilinear")).round()
    return pixels_NCHW.to(torch.uint8).unflatten(0, (clips, frames)).permute(0, 1, 3, 4, 2).contiguous()
