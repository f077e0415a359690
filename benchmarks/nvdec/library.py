"""Question 1: is the decoding library there, what does it decode, and how many decoders can there be at once?"""

from __future__ import annotations

import statistics

import torch

from benchmarks.harness.session import Probe
from benchmarks.nvdec import nvcuvid
from dali_pipes.feed.nvdec import library

DEEP = ("h264", "hevc", "vp9", "av1")  # codecs that have pictures of 10 bits
MOST_DECODERS, SECONDS = 256, 4.0  # DALI keeps at most 100


def run_section(probe: Probe) -> None:
    kinds = [(codec, bits) for codec in nvcuvid.CODECS for bits in ((8, 10) if codec in DEEP else (8,))]
    cases = {f"library/{codec}-{bits}bit": (capabilities, codec, bits) for codec, bits in kinds}
    height = probe.scale.base.height
    for width in (probe.scale.base.width, probe.scale.odd_width):
        for codec in ("h264", "hevc"):
            cases[f"library/create-{codec}-{width}x{height}"] = create, codec, width, height
    probe.run(cases)


def capabilities(codec: str, bits: int) -> dict:
    """Ask for the GPU's decoding capabilities for a codec."""
    _make_context()
    return nvcuvid.capabilities(codec, bits)


def create(codec: str, width: int, height: int) -> dict:
    """Count the decoders that can exist at once, and time their creation."""
    _make_context()
    took, error = nvcuvid.create_decoders(codec, width, height, MOST_DECODERS, SECONDS)
    costs = {"first_ms": took[0], "median_ms": statistics.median(took), "last_ms": took[-1]} if took else {}
    return {"at_once": len(took), **costs, "ended_by": error or "the limit of the probe"}


def _make_context() -> None:
    """Make a CUDA context, after loading the library: without the library, that error is the one to report."""
    library()
    torch.zeros(1, device="cuda")
