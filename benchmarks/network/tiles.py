"""Search for the fastest tiles of the folded shift's kernels, layer by layer. For GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from triton.runtime.errors import OutOfResources

from benchmarks.harness.session import Probe
from benchmarks.network.cases import Layer, Tiles, Work, example, folded
from benchmarks.network.scale import Scale
from models.shift.gpu_kernels import Tile

CANDIDATES = (
    Tile(128, 128, 64, warps=8, stages=3),
    Tile(128, 128, 32, warps=8, stages=4),
    Tile(128, 64, 64, warps=8, stages=3),
    Tile(128, 64, 64, warps=4, stages=3),
    Tile(256, 64, 32, warps=8, stages=4),
    Tile(64, 128, 64, warps=4, stages=4),
    Tile(64, 64, 64, warps=4, stages=4),
)
REPEATS = 5


def tuned(probe: Probe, layers: Iterable[Layer]) -> dict[Layer, Tiles]:
    """Return the fastest tiles of every layer that time allowed."""
    cases = {f"tiles/{layer.name}": (search, probe.scale, layer) for layer in layers}
    found = probe.run(cases)
    return {
        layer: Tiles(*(Tile(*found[name][kernel]) for kernel in Tiles._fields))
        for name, (_, _, layer) in cases.items()
        if name in found
    }


def search(scale: Scale, layer: Layer) -> dict:
    """Return the fastest tile of each kernel in half precision, and its milliseconds."""
    of = example(scale, layer, scale.precisions[0], scale.clips)
    times: dict[str, dict[Tile, float]] = {kernel: {} for kernel in Tiles._fields}
    for tile in CANDIDATES:
        for kernel, call in folded(of, Tiles(tile, tile, tile)).items():
            if (time := _time(scale, call)) is not None:
                times[kernel][tile] = time
    best = {kernel: min(of_kernel, key=of_kernel.__getitem__) for kernel, of_kernel in times.items()}
    return best | {f"{kernel}_ms": times[kernel][tile] for kernel, tile in best.items()}


def _time(scale: Scale, call: Work) -> float | None:
    """Return milliseconds, or None if a tile needs more than the GPU has."""
    try:
        scale.clock.time(call)  # compiles
        return scale.clock.time(call, REPEATS, cold=True)
    except OutOfResources:
        return None
