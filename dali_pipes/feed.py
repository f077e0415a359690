"""Threads that turn views into what the graph takes: cut, and for the `pyav` head decode, some batches ahead.

A video that cannot be read becomes a placeholder whose row is −1, and is remembered with its reason.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain

import av
import numpy as np
from PIL import Image

from dali_pipes.batch import Unreadable
from dali_pipes.catalog import Catalog
from dali_pipes.cutter import Cut, cut_all
from dali_pipes.decode import decode_frames
from dali_pipes.errors import DataError, attempt
from dali_pipes.frame_folders import read_pictures
from dali_pipes.graph import Head
from dali_pipes.plan import Place, Plan
from dali_pipes.video import Video
from dali_pipes.views import Views

PART = 16  # videos that a thread prepares at once: enough to share the cost of calling NumPy
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


def prepare(videos: Sequence[Video], head: Head, views: Views) -> list[Sample | DataError]:
    """What the views show of their B videos, each frame read once; or why a video cannot be read."""
    wanted, order_BVT = distinct(views.frames_BVT)
    contents = _read(videos, head, wanted)
    mirror_BV = views.mirror_BV.astype(np.int32)
    return [
        content if isinstance(content, DataError) else Sample(order_VT, box_V4, mirror_V, content)
        for content, order_VT, box_V4, mirror_V in zip(contents, order_BVT, views.box_BV4, mirror_BV, strict=True)
    ]


def _read(videos: Sequence[Video], head: Head, wanted: list[np.ndarray]) -> list[tuple[np.ndarray, ...] | DataError]:
    """`Sample.video` of each video, with its wanted frames."""
    if head == "jpeg":
        return [attempt(read_pictures, video, frames_U) for video, frames_U in zip(videos, wanted, strict=True)]

    def content(video: Video, cut: Cut | DataError) -> tuple[np.ndarray, ...] | DataError:
        if isinstance(cut, DataError):
            return cut
        if head == "pyav":
            return (decode_frames(cut, video.path),)
        return np.frombuffer(cut.data, np.uint8), cut.positions

    return [attempt(content, video, cut) for video, cut in zip(videos, cut_all(videos, wanted), strict=True)]


def distinct(frames_BVT: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """For each video the frames that any of its views shows, ascending, and int32 [B, V, T]: which of them is where."""
    frames_BN = frames_BVT.reshape(len(frames_BVT), -1)
    by_frame = frames_BN.argsort(axis=1, kind="stable")
    ascending_BN = np.take_along_axis(frames_BN, by_frame, axis=1)
    first_BN = np.ones(frames_BN.shape, bool)
    first_BN[:, 1:] = ascending_BN[:, 1:] != ascending_BN[:, :-1]
    order_BN = np.empty(frames_BN.shape, np.int32)
    np.put_along_axis(order_BN, by_frame, first_BN.cumsum(axis=1, dtype=np.int32) - 1, axis=1)
    wanted = [frames_N[first_N] for frames_N, first_N in zip(ascending_BN, first_BN, strict=True)]
    return wanted, order_BN.reshape(frames_BVT.shape)


class Feeder:
    """Prepares batches ahead in threads. `unreadable` lists the videos found bad here, by row."""

    def __init__(self, catalog: Catalog, head: Head, threads: int):
        self.catalog = catalog
        self.head = head
        self.unreadable: dict[int, Unreadable] = {}
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cut")

    def batches(self, plan: Plan, places: Iterable[Place], ahead: int) -> Iterator[Prepared]:
        """The batches of `plan` at these places, with `ahead` of them in preparation."""
        pending: deque[tuple[Views, list[Future]]] = deque()
        try:
            for place in places:
                pending.append(self._submit(plan.draw(*place)))
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
        size = min(PART, -(-len(views.row_B) // self._threads))
        parts = (views.part(slice(first, first + size)) for first in range(0, len(views.row_B), size))
        return views, [self._pool.submit(self._samples, part) for part in parts]

    def _collect(self, views: Views, futures: list[Future]) -> Prepared:
        samples = list(chain.from_iterable(future.result() for future in futures))
        row_B = np.where([sample is None for sample in samples], -1, views.row_B)
        blank = placeholder(self.head, *views.frames_BVT.shape[1:])
        return Prepared([sample or blank for sample in samples], row_B)

    def _samples(self, views: Views) -> list[Sample | None]:
        """The sample of each video; None where there is none to read."""
        samples: list[Sample | None] = [None] * len(views.row_B)
        good = [place for place, row in enumerate(views.row_B.tolist()) if row >= 0 and row not in self.unreadable]
        if not good:
            return samples
        views = views.part(good)
        rows = views.row_B.tolist()
        for place, row, sample in zip(
            good, rows, prepare([*map(self.catalog.video, rows)], self.head, views), strict=True
        ):
            if isinstance(sample, DataError):
                self.give_up(row, str(sample))
            else:
                samples[place] = sample
        return samples
