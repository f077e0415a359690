"""DALI's video decoders on the same clips: from cut files, from whole files, and with DALI's own reader.

On a CPU they read VP9 and MJPEG; on a GPU (NVDEC) H.264 and HEVC, too. Frames stay where they are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.tensors import TensorListCPU, TensorListGPU

from benchmarks.alternatives.decoders import Clip
from dali_pipes.cut import cutter
from dali_pipes.feed.graph import decode_video

Source = Callable[[Clip], tuple[np.ndarray, np.ndarray]]
Batches = Iterator[TensorListCPU | TensorListGPU]  # [T, H, W, 3] of each clip of a batch


def cut_file(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest file with the clip's frames, and their positions in it."""
    small = cutter.cut(clip.video, clip.frames_T)
    return np.frombuffer(small.data, np.uint8), small.positions


def whole_file(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Return the unchanged file."""
    return np.fromfile(clip.path, np.uint8), clip.frames_T.astype(np.int32)


def decoded(clips: list[Clip], source: Source, batch: int, threads: int, on_gpu: bool) -> Batches:
    """Run `fn.decoders.video` on the files that `source` makes of the clips, endlessly, batch by batch."""
    how = {"batch_size": batch, "num_threads": threads, "device_id": 0 if on_gpu else None}
    graph = _decoder(lambda info: source(clips[info.idx_in_epoch % len(clips)]), mixed=on_gpu, **how)
    while True:
        (frames,) = graph.run()  # waits for the GPU, too
        yield frames


def read(clips: list[Clip], batch: int, threads: int, on_gpu: bool) -> Batches:
    """Run `fn.experimental.readers.video`, which uses keyframes but reads evenly spaced frames only."""
    how = {"batch_size": batch, "num_threads": threads, "device_id": 0 if on_gpu else None}
    graph = _reader([clips[0].path], len(clips[0].frames_T), on_gpu=on_gpu, **how)
    while True:
        (frames,) = graph.run()  # waits for the GPU, too
        yield frames


def on_host(frames: TensorListCPU | TensorListGPU) -> list[np.ndarray]:
    """Copy the frames of each clip of a batch to the host."""
    return [np.array(clip_THWC) for clip_THWC in frames.as_cpu()]


def evenly(clip: Clip) -> Clip:
    """Return the clip that `read` reads from this clip's video."""
    frames_T = np.rint(np.linspace(0, clip.video.frames - 1, len(clip.frames_T))).astype(np.int64)
    return replace(clip, frames_T=frames_T)


@pipeline_def
def _decoder(source, *, mixed: bool):
    encoded, frames_T = fn.external_source(
        source=source, num_outputs=2, batch=False, dtype=[types.UINT8, types.INT32], ndim=[1, 1]
    )
    return decode_video(encoded, frames_T, "mixed" if mixed else "cpu")


@pipeline_def
def _reader(paths: list[str], frames: int, *, on_gpu: bool):
    return fn.experimental.readers.video(
        filenames=paths, uniform_sample=True, sequence_length=frames, device="gpu" if on_gpu else "cpu", name="videos"
    )
