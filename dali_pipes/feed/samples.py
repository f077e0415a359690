"""Samples, the input of the graph: the views of a video with their frames, cut or decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dali_pipes.cut.cutter import cut_all
from dali_pipes.cut.reading import FromStore
from dali_pipes.errors import DataError, attempt
from dali_pipes.feed.decoders import BLANK, Allocate, Content, Decoder, GraphForm
from dali_pipes.video.orientation import MIRRORED, TRANSPOSED, UPRIGHT, UPSIDE_DOWN, stored_boxes
from dali_pipes.video.packet_table import Video
from dali_pipes.views.draw import Views

_IDENTITY = np.eye(3, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Sample:
    """One video and its views: see `graph.clip_graph`."""

    order_VT: np.ndarray
    box_V4: np.ndarray
    mirror_V: np.ndarray
    turn: tuple[np.ndarray, np.ndarray]  # bool: transposed, upside down; left-right mirroring is part of `mirror_V`
    content: Content


@dataclass(slots=True)
class PreparedBatch:
    """One batch before the graph, with the row of each video in the list; −1 for padding and unreadable videos."""

    samples: list[Sample]
    row_B: np.ndarray
    views: Views
    clips_BVTHWC: Tensor | None = None  # only if the threads make them, without a graph


def columns(samples: Sequence[Sample], form: GraphForm) -> tuple[list[np.ndarray], ...]:
    """Return samples as the inputs of a graph of this form, one list per input."""
    rows = []
    for sample in samples:
        content = sample.content
        row = [sample.order_VT, sample.box_V4, sample.mirror_V, content.frames]
        if form.turned:
            row += sample.turn
        if form.recoloured:
            wrong = content.colours_33 is not None
            row += np.array(wrong), content.colours_33 if wrong else _IDENTITY
        if form.decoder:
            row += np.array(content.for_graph), content.encoded, content.position_U, content.shown_HW
        rows.append(row)
    return tuple(map(list, zip(*rows, strict=True)))


def placeholder(views: int, frames: int, content: Content = BLANK) -> Sample:
    """Make a sample of a frame of 64x64 pixels, as a placeholder for an unreadable video."""
    box_V4 = np.tile(np.array([0, 0, 64, 64], np.float32), (views, 1))
    return Sample(np.zeros((views, frames), np.int32), box_V4, np.zeros(views, np.int32), _turn(UPRIGHT), content)


def prepare(
    videos: Sequence[Video],
    decoders: Sequence[Decoder],
    views: Views,
    allocate: Allocate | None = None,
    fetched: Sequence[FromStore] | None = None,
) -> Iterator[Sample | DataError]:
    """Read the frames of the views of B videos, each frame once, in the form that the video's decoder needs. Yield a
    Sample, or the DataError of an unreadable video. All videos are cut first, then decoded one by one. `fetched`: see
    `cut_all`.
    """
    wanted, order_BVT = distinct(views.frames_BVT)
    files = [place for place, video in enumerate(videos) if video.access != "frames"]
    of_files = cut_all(
        [videos[place] for place in files],
        [wanted[place] for place in files],
        fetched and [fetched[place] for place in files],
    )
    cuts = dict(zip(files, of_files, strict=True))
    mirror_BV = views.mirror_BV.astype(np.int32)
    for place, (video, decoder) in enumerate(zip(videos, decoders, strict=True)):
        cut = cuts.get(place)
        failed = isinstance(cut, DataError)
        content = cut if failed else attempt(decoder.content, video, wanted[place], cut, allocate)
        if isinstance(content, DataError):
            yield content
        else:
            turn = video.orientation
            box_V4 = stored_boxes(views.box_BV4[place], turn, video.width, video.height)
            mirror_V = mirror_BV[place] ^ (turn & MIRRORED != 0)
            yield Sample(order_BVT[place], box_V4, mirror_V, _turn(turn), content)


def _turn(orientation: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(orientation & TRANSPOSED != 0), np.array(orientation & UPSIDE_DOWN != 0)


def distinct(frames_BVT: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return, for each video, the distinct frames of its views, ascending; and int32 [B, V, T], their indices there."""
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
