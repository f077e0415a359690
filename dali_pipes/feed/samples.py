"""What the graph takes of a video: its views and the frames that they show, cut, for the `pyav` head also decoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import av
import numpy as np
from PIL import Image
from torch import Tensor

from dali_pipes.cut.cutter import Cut, cut_all
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError, attempt
from dali_pipes.feed import nvdec
from dali_pipes.feed.graph import Head
from dali_pipes.video.frame_folders import read_pictures
from dali_pipes.video.packet_table import Video
from dali_pipes.views.draw import Views

Decode = Callable[[Cut, str], np.ndarray | list[np.ndarray]]  # cut, path -> pictures

_FIRST_FRAME = np.zeros((1, 1), np.int32)


@dataclass(frozen=True, slots=True)
class Sample:
    """One video and its views: see `graph.clip_graph`."""

    order_VT: np.ndarray
    box_V4: np.ndarray
    mirror_V: np.ndarray
    video: tuple[np.ndarray | list[np.ndarray], ...]
    """For `pyav` its decoded frames, for `jpeg` the file of each frame; for the other heads the bytes of a cut file and
    the positions of the frames in it."""

    def rows(self, head: Head) -> Iterator[tuple[np.ndarray, ...]]:
        """What the graph takes: one row, or for `jpeg` a row for each frame of each view, as if it were a video."""
        if head != "jpeg":
            yield self.order_VT, self.box_V4, self.mirror_V, *self.video
            return
        for (view, _), picture in np.ndenumerate(self.order_VT):
            one = slice(view, view + 1)
            yield _FIRST_FRAME, self.box_V4[one], self.mirror_V[one], self.video[picture]


@dataclass(slots=True)
class PreparedBatch:
    """One batch before the graph, with the rows of the list that it shows; −1: padding, or unreadable."""

    samples: list[Sample]
    row_B: np.ndarray
    clips_BVTHWC: Tensor | None = None  # where the threads have made them, and there is no graph

    @property
    def mirror_B(self) -> np.ndarray:
        """Whether each video is mirrored in all of its views."""
        return np.array([sample.mirror_V.all() for sample in self.samples])

    def columns(self, head: Head) -> tuple[list[np.ndarray], ...]:
        """The batch as lists, one for each input of the graph."""
        rows = [row for sample in self.samples for row in sample.rows(head)]
        return tuple(map(list, zip(*rows, strict=True)))


@cache
def placeholder(head: Head, views: int, frames: int) -> Sample:
    """A sample that any decoder takes, in place of a video that cannot be read."""
    frames_UHWC = np.zeros((1, 64, 64, 3), np.uint8)
    if head == "pyav":
        video = (frames_UHWC,)
    elif head == "jpeg":
        video = (_jpeg(frames_UHWC[0]),)
    else:
        encoded = _still(frames_UHWC[0], "libx264" if head == "nvdec" else "libvpx-vp9")
        video = np.frombuffer(encoded, np.uint8), np.zeros(1, np.int32)
    box_V4 = np.tile(np.array([0, 0, 64, 64], np.float32), (views, 1))
    return Sample(np.zeros((views, frames), np.int32), box_V4, np.zeros(views, np.int32), video)


def _still(picture_HWC: np.ndarray, encoder: str) -> bytes:
    """An mp4 file of one picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=25, width=picture_HWC.shape[1], height=picture_HWC.shape[0])
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _jpeg(picture_HWC: np.ndarray) -> np.ndarray:
    """A JPEG file of a picture."""
    file = io.BytesIO()
    Image.fromarray(picture_HWC).save(file, "JPEG")
    return np.frombuffer(file.getvalue(), np.uint8)


def prepare(
    videos: Sequence[Video], head: Head, views: Views, decode: Decode = decode_frames
) -> Iterator[Sample | DataError]:
    """What the views show of each of their B videos, every frame read once; or why a video cannot be read."""
    wanted, order_BVT = distinct(views.frames_BVT)
    contents = _read(videos, head, wanted, decode)
    mirror_BV = views.mirror_BV.astype(np.int32)
    for content, order_VT, box_V4, mirror_V in zip(contents, order_BVT, views.box_BV4, mirror_BV, strict=True):
        yield content if isinstance(content, DataError) else Sample(order_VT, box_V4, mirror_V, content)


def _read(
    videos: Sequence[Video], head: Head, wanted: list[np.ndarray], decode: Decode
) -> Iterator[tuple[np.ndarray, ...] | DataError]:
    """`Sample.video` of each video, with its wanted frames. All are cut first, but decoded one by one."""
    if head == "jpeg":
        return (attempt(read_pictures, video, frames_U) for video, frames_U in zip(videos, wanted, strict=True))

    def content(video: Video, cut: Cut | DataError) -> tuple[np.ndarray, ...] | DataError:
        if isinstance(cut, DataError):
            return cut
        if head == "nvdec" and (reason := nvdec.objection(video)):
            raise DataError(video.path, reason)
        if head == "pyav":
            return (decode(cut, video.path),)
        return np.frombuffer(cut.data, np.uint8), cut.positions

    return (attempt(content, video, cut) for video, cut in zip(videos, cut_all(videos, wanted), strict=True))


def distinct(frames_BVT: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """For each video the frames that any of its views shows, ascending, and int32 [B, V, T]: which of them is where."""
    B, V, T = frames_BVT.shape
    frames_BN = frames_BVT.reshape(B, V * T)
    by_frame = frames_BN.argsort(axis=1)
    ascending_BN = np.take_along_axis(frames_BN, by_frame, axis=1)
    first_BN = np.ones(frames_BN.shape, bool)
    first_BN[:, 1:] = ascending_BN[:, 1:] != ascending_BN[:, :-1]
    order_BN = np.empty(frames_BN.shape, np.int32)
    np.put_along_axis(order_BN, by_frame, first_BN.cumsum(axis=1, dtype=np.int32) - 1, axis=1)
    wanted = [frames_N[first_N] for frames_N, first_N in zip(ascending_BN, first_BN, strict=True)]
    return wanted, order_BN.reshape(frames_BVT.shape)
