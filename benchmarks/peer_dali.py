"""DALI's video decoder on the same clips: fed with cut files, and with whole files as its documentation has it.

On a CPU it reads VP9 and MJPEG; on a GPU (NVDEC) H.264 and HEVC, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from benchmarks.peer_decoders import Clip
from dali_pipes import cutter

Source = Callable[[Clip], tuple[np.ndarray, np.ndarray]]


def cut_file(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """The smallest file with the clip's frames, and where in it they are."""
    small = cutter.cut(clip.video, clip.frames_T)
    return np.frombuffer(small.data, np.uint8), small.positions


def whole_file(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """The file as it is."""
    return np.fromfile(clip.path, np.uint8), clip.frames_T.astype(np.int32)


def batches(clips: list[Clip], source: Source, batch: int, threads: int, on_gpu: bool) -> Iterator[list[np.ndarray]]:
    """[T, H, W, 3] of each clip of a batch, for as many whole batches as there are clips; on a GPU they stay there."""
    graph = _decode(
        source=lambda info: source(clips[info.idx_in_epoch % len(clips)]),
        mixed=on_gpu,
        batch_size=batch,
        num_threads=threads,
        device_id=0 if on_gpu else None,
    )
    for _ in range(len(clips) // batch):
        (frames,) = graph.run()
        yield [] if on_gpu else [frames.at(place) for place in range(batch)]


@pipeline_def
def _decode(source, *, mixed: bool):
    encoded, frames_T = fn.external_source(
        source=source, num_outputs=2, batch=False, dtype=[types.UINT8, types.INT32], ndim=[1, 1]
    )
    device = "mixed" if mixed else "cpu"
    return fn.decoders.video(encoded, frames=frames_T, pad_mode="edge", device=device)
