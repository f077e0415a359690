"""Threads that turn views into what the graph takes: cut, and for the `pyav` head decode, some batches ahead.

A video that cannot be read becomes a placeholder whose row is −1, and is remembered with its reason.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import av
import numpy as np
from PIL import Image

from dali_pipes import cutter
from dali_pipes.batch import Unreadable
from dali_pipes.catalog import Catalog
from dali_pipes.decode import decode_frames
from dali_pipes.errors import DataError
from dali_pipes.frame_folders import read_pictures
from dali_pipes.graph import Head
from dali_pipes.video import Video
from dali_pipes.views import Views

_FIRST_FRAME = np.zeros((1, 1), np.int32)


@dataclass(frozen=True, slots=True)
class Sample:
    """One video and its views: see `graph.clip_graph`."""

    order_VT: np.ndarray
    box_V4: np.ndarray
    mirror_V: np.ndarray
    video: tuple[np.ndarray, ...]
    """For `pyav` its decoded frames, for `jpeg` the file of each frame; for the other heads the bytes of a cut file and
    the positions of the frames in it."""

    def rows(self, head: Head) -> Iterator[tuple[np.ndarray, ...]]:
        """What the graph takes: the video in one, or for `jpeg` each frame of each view as a video of its own."""
        if head != "jpeg":
            yield self.order_VT, self.box_V4, self.mirror_V, *self.video
            return
        for (view, _), picture in np.ndenumerate(self.order_VT):
            one = slice(view, view + 1)
            yield _FIRST_FRAME, self.box_V4[one], self.mirror_V[one], self.video[picture]


@dataclass(slots=True)
class Prepared:
    """One batch as the graph takes it, with the rows of the list that it shows."""

    samples: list[Sample]
    row_B: np.ndarray

    @property
    def mirror_B(self) -> np.ndarray:
        """Whether a video is mirrored in every view."""
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


def prepare(video: Video, head: Head, frames_VT: np.ndarray, box_V4: np.ndarray, mirror_V: np.ndarray) -> Sample:
    """Read what the views show of a video, each frame once. Raises DataError."""
    wanted_U, order_VT = np.unique(frames_VT, return_inverse=True)
    if head == "jpeg":
        content = tuple(read_pictures(video, wanted_U))
    elif head == "pyav":
        content = (decode_frames(cutter.cut(video, wanted_U), video.path),)
    else:
        cut = cutter.cut(video, wanted_U)
        content = np.frombuffer(cut.data, np.uint8), cut.positions
    return Sample(order_VT.reshape(frames_VT.shape).astype(np.int32), box_V4, mirror_V.astype(np.int32), content)


class Feeder:
    """Prepares batches ahead in threads. `unreadable` lists the videos found bad here, by row."""

    def __init__(self, catalog: Catalog, head: Head, threads: int):
        self.catalog = catalog
        self.head = head
        self.unreadable: dict[int, Unreadable] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cut")

    def batches(self, plan, epoch: int, start: int, ahead: int) -> Iterator[Prepared]:
        """The batches of `plan` from step `start` on, with `ahead` of them in preparation."""
        pending: deque[tuple[Views, list[Future]]] = deque()
        try:
            for step in range(start, len(plan)):
                pending.append(self._submit(plan.draw(epoch, step)))
                if len(pending) > ahead:
                    yield self._collect(*pending.popleft())
            while pending:
                yield self._collect(*pending.popleft())
        finally:
            for _, futures in pending:
                for future in futures:
                    future.cancel()

    def give_up(self, row: int, reason: str) -> None:
        """Remember that the video of this row cannot be read."""
        self.unreadable.setdefault(int(row), Unreadable(int(row), self.catalog.path(int(row)), reason))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, views: Views) -> tuple[Views, list[Future]]:
        futures = [self._pool.submit(self._sample, views, place) for place in range(len(views.row_B))]
        return views, futures

    def _collect(self, views: Views, futures: list[Future]) -> Prepared:
        samples = [future.result() for future in futures]
        row_B = np.array([-1 if sample is None else row for sample, row in zip(samples, views.row_B, strict=True)])
        blank = placeholder(self.head, *views.frames_BVT.shape[1:])
        return Prepared([sample or blank for sample in samples], row_B)

    def _sample(self, views: Views, place: int) -> Sample | None:
        row = int(views.row_B[place])
        if row < 0 or row in self.unreadable:
            return None
        try:
            frames_VT, box_V4, mirror_V = (a[place] for a in (views.frames_BVT, views.box_BV4, views.mirror_BV))
            return prepare(self.catalog.video(row), self.head, frames_VT, box_V4, mirror_V)
        except DataError as error:
            self.give_up(row, str(error))
            return None
