"""The decoders that are compared for speed, each prepared to decode the same clips repeatedly."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from nvidia.dali import Pipeline, fn, pipeline_def, types
from PIL import Image

from benchmarks.harness.numbered_videos import VideoSpec, picture
from benchmarks.nvdec import remux, streams
from benchmarks.nvdec.scale import Scale
from dali_pipes.cut import cutter, decode
from dali_pipes.video.packet_table import Video

JPEG_QUALITY = 85


@dataclass(frozen=True)
class Contender:
    """One way to decode the frames of a video's clips."""

    decoder: Literal["dali", "pyav", "jpeg"]
    video: VideoSpec
    threads: int
    batch: int = 1
    form: str = "cut"
    joined: int = 1  # clips in one stream
    hardware_load: float = 0.0  # the share of JPEG files that the hardware decoder gets

    @property
    def name(self) -> str:
        form = f"{self.joined}-joined" if self.joined > 1 else self.form
        form = f"hw{self.hardware_load:g}" if self.decoder == "jpeg" else form
        return f"{self.decoder}/{self.video.name}/{form}/t{self.threads}-b{self.batch}"


@dataclass(frozen=True)
class Ready:
    """A decoder with its input in memory."""

    run: Callable[[], object]  # decodes everything once and waits for the end
    pictures: Callable[[], list[np.ndarray]]  # the same, on the host: UHWC for each entry of `wanted`
    wanted: list[np.ndarray]  # the frame numbers that they must show
    packets: int  # compressed frames that are decoded
    size: int  # bytes of those frames


def make_ready(scale: Scale, folder: Path, contender: Contender, clips: int) -> Ready:
    """Read and cut `clips` clips, with the same frames for all decoders of videos of one length."""
    video = streams.scanned(folder, contender.video)
    wanted = [streams.clip_frames(video, scale.clip_frames, clip) for clip in range(clips)]
    return {"dali": _dali, "pyav": _pyav, "jpeg": _jpeg}[contender.decoder](scale, contender, video, wanted)


def _dali(scale: Scale, contender: Contender, video: Video, wanted: list[np.ndarray]) -> Ready:
    if contender.joined > 1:
        parts = [wanted[first : first + contender.joined] for first in range(0, len(wanted), contender.joined)]
        made = [remux.join(video, part) for part in parts]
    else:
        made = [streams.FORMS[contender.form](video, frames) for frames in wanted]
    batch = max(1, contender.batch // contender.joined)
    pipeline = streams.open_decoder(made, batch, scale.head, scale.device, contender.threads)
    return Ready(
        run=lambda: _exhaust(pipeline),
        pictures=lambda: streams.pictures(pipeline),
        wanted=[stream.wanted for stream in made],
        packets=sum(stream.packets for stream in made),
        size=sum(len(stream.data) for stream in made),
    )


def _exhaust(pipeline: Pipeline) -> None:
    deque(streams.epoch(pipeline), maxlen=0)


def _pyav(scale: Scale, contender: Contender, video: Video, wanted: list[np.ndarray]) -> Ready:
    cuts = [cutter.cut(video, frames) for frames in wanted]
    pool = ThreadPoolExecutor(contender.threads)

    def run() -> list[np.ndarray]:
        return list(pool.map(lambda cut: decode.decode_frames(cut, video.path), cuts))

    return Ready(run, run, wanted, sum(cut.packets for cut in cuts), sum(len(cut.data) for cut in cuts))


def _jpeg(scale: Scale, contender: Contender, video: Video, wanted: list[np.ndarray]) -> Ready:
    """Encode every frame as a separate file, as in datasets of extracted frames."""
    encoded = {number: _encode(picture(contender.video, number)) for number in np.unique(wanted).tolist()}
    files = [encoded[number] for frames in wanted for number in frames.tolist()]
    images = contender.batch * scale.clip_frames
    batches = [[np.frombuffer(file, np.uint8) for file in files[i : i + images]] for i in range(0, len(files), images)]
    pipeline = _jpeg_graph(
        batches,
        "mixed" if scale.device == "gpu" else "cpu",
        contender.hardware_load,
        batch_size=images,
        num_threads=contender.threads,
        device_id=0 if scale.device == "gpu" else None,
    )
    pipeline.build()
    return Ready(
        run=lambda: _exhaust(pipeline),
        pictures=lambda: np.split(np.stack(streams.pictures(pipeline)), len(wanted)),
        wanted=wanted,
        packets=len(files),
        size=sum(map(len, files)),
    )


@pipeline_def
def _jpeg_graph(batches: list[list], device: str, hardware_load: float):
    (files,) = fn.external_source(
        source=[(batch,) for batch in batches], num_outputs=1, batch=True, cycle="raise", dtype=types.UINT8, ndim=1
    )
    how = {"hw_decoder_load": hardware_load, "output_type": types.RGB, "affine": False}
    return fn.decoders.image(files, device=device, **how)


def _encode(picture_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture_HWC).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
