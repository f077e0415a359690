"""The decoders, with one interface: the reason why a decoder cannot decode a video, and the data that it gives the
graph.

`pyav` and `jpeg` decode in threads and give the graph frames. For `nvdec` and `dali_cpu`, threads only read, and the
graph decodes the bytes. One batch may contain both.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple, Protocol

import av
import numpy as np
from PIL import Image

from dali_pipes.cut.cutter import Cut
from dali_pipes.cut.decode import decode_frames, decode_pictures
from dali_pipes.cut.uncrop import uncrop
from dali_pipes.errors import DataError
from dali_pipes.feed import nvdec
from dali_pipes.feed.nvdec import FOLDER, Refusal
from dali_pipes.video.colours import correction
from dali_pipes.video.frame_folders import picture_name, read_pictures, upright
from dali_pipes.video.packet_table import Video

Allocate = Callable[[tuple[int, ...]], np.ndarray]  # shape -> uint8 array

_BLANK_FRAMES = np.zeros((1, 64, 64, 3), np.uint8)


class GraphForm(NamedTuple):
    """The parts of the graph that a set of videos needs. They determine its inputs."""

    decoder: Literal["", "cpu", "mixed"] = ""  # device of DALI's video decoder; empty if threads decode everything
    turned: bool = False  # some videos need rotation
    recoloured: bool = False  # some videos need a correction of DALI's colour conversion


class Content(NamedTuple):
    """The wanted frames of a video, ascending and without repeats: decoded, or encoded for the graph."""

    frames: np.ndarray | Sequence[np.ndarray] = np.zeros((0, 1, 1, 3), np.uint8)  # U of [H, W, 3]
    encoded: np.ndarray = np.zeros(0, np.uint8)  # [bytes] uint8, a cut file
    position_U: np.ndarray = np.zeros(0, np.int32)  # indices of the wanted frames in that file
    shown_HW: np.ndarray = np.zeros(2, np.int32)  # frame size without padding
    colours_33: np.ndarray | None = None  # correction of DALI's colours, see `colours.py`

    @property
    def for_graph(self) -> bool:
        """Return True if the graph has to decode the frames."""
        return len(self.encoded) > 0


BLANK = Content(frames=_BLANK_FRAMES)
"""Stands in for a video that cannot be read."""


class Decoder(Protocol):
    """The interface of a decoder."""

    name: str
    in_graph: Literal["", "cpu", "mixed"]  # device of DALI's operator; empty if threads decode

    def refusal(self, video: Video) -> Refusal | None:
        """Return the reason why this decoder cannot decode the video correctly, or None if it can."""

    def content(self, video: Video, frames_U: np.ndarray, cut: Cut | None, allocate: Allocate | None) -> Content:
        """Prepare the wanted frames; raises DataError. `cut` is None for a folder of JPEG frames.

        `allocate` returns the memory that threads decode into. Without it, frames stay in the decoder's buffers.
        """


class PyavDecoder:
    """Decodes any video file with FFmpeg, in threads."""

    name = "pyav"
    in_graph = ""

    def refusal(self, video: Video) -> Refusal | None:
        return FOLDER if video.access == "frames" else None

    def content(self, video: Video, frames_U: np.ndarray, cut: Cut | None, allocate: Allocate | None) -> Content:
        if allocate is None:
            return Content(frames=decode_pictures(cut, video.path))
        return Content(frames=decode_frames(cut, video.path, allocate((len(frames_U), *cut.shape, 3))))


class JpegDecoder:
    """Decodes a folder of JPEG frames with Pillow, in threads; the pixels equal those of DALI's CPU decoder."""

    name = "jpeg"
    in_graph = ""

    def refusal(self, video: Video) -> Refusal | None:
        return None if video.access == "frames" else Refusal("video files", "is not a folder of frames")

    def content(self, video: Video, frames_U: np.ndarray, cut: Cut | None, allocate: Allocate | None) -> Content:
        files = read_pictures(video, frames_U)
        pictures = [_decode_jpeg(video, *each) for each in zip(frames_U.tolist(), files, strict=True)]
        if allocate is None:
            return Content(frames=pictures)
        return Content(frames=np.stack(pictures, out=allocate((len(pictures), *pictures[0].shape))))


def _decode_jpeg(video: Video, frame: int, file: np.ndarray) -> np.ndarray:
    """Decode a picture of a folder to [H, W, 3] uint8 RGB, upright. Raises DataError naming it."""
    name = picture_name(video.description.decode(), frame)
    try:
        with Image.open(io.BytesIO(file), formats=["JPEG"]) as picture:
            picture_HWC = np.asarray(upright(picture).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(video.path, f"{name} is damaged, or not a JPEG picture") from error
    height, width = picture_HWC.shape[:2]
    if (width, height) != (video.width, video.height):
        raise DataError(video.path, f"{name} is {width}x{height}, not {video.width}x{video.height}")
    return picture_HWC


class DaliDecoder:
    """DALI's video decoder inside the graph: NVDEC (`mixed`), or libvpx and FFmpeg's MJPEG (`cpu`).

    NVDEC gets files without cropping, which decode with padding; the graph removes the padding, see `cut/uncrop.py`.
    """

    def __init__(self, name: str, in_graph: Literal["cpu", "mixed"], refusal: Callable[[Video], Refusal | None]):
        self.name = name
        self.in_graph = in_graph
        self.refusal = refusal

    def content(self, video: Video, frames_U: np.ndarray, cut: Cut | None, allocate: Allocate | None) -> Content:
        data = uncrop(cut) if self.in_graph == "mixed" else cut.data
        return Content(
            encoded=np.frombuffer(data, np.uint8),
            position_U=cut.positions,
            shown_HW=np.array(cut.shape, np.int32),
            colours_33=correction(video.description),
        )


def _refusal_of_dali_cpu(video: Video) -> Refusal | None:
    if video.access == "frames":
        return FOLDER
    if video.codec not in ("vp8", "vp9", "mjpeg"):
        return Refusal(video.codec.upper(), f"is {video.codec}, which DALI cannot decode on a CPU")
    if video.access == "whole":
        return Refusal("not cuttable", "cannot be cut, and DALI may count its frames otherwise")
    return None


PYAV = PyavDecoder()
JPEG = JpegDecoder()
NVDEC = DaliDecoder("nvdec", "mixed", nvdec.refusal)
DALI_CPU = DaliDecoder("dali_cpu", "cpu", _refusal_of_dali_cpu)
ON_THREADS: tuple[Decoder, ...] = PYAV, JPEG


def thread_decoder(video: Video) -> Decoder:
    """Return the decoder that decodes this video in threads."""
    return next(decoder for decoder in ON_THREADS if not decoder.refusal(video))


@cache
def example(in_graph: Literal["cpu", "mixed"]) -> Content:
    """Make a video of one black frame that DALI's decoder supports on this device."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264" if in_graph == "mixed" else "libvpx-vp9", rate=25)
        _, stream.height, stream.width, _ = _BLANK_FRAMES.shape
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(_BLANK_FRAMES[0], format="rgb24")))
        container.mux(stream.encode())
    encoded, shown_HW = np.frombuffer(file.getvalue(), np.uint8), np.array(_BLANK_FRAMES.shape[1:3], np.int32)
    return Content(encoded=encoded, position_U=np.zeros(1, np.int32), shown_HW=shown_HW)
