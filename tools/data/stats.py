"""Print dataset statistics, and the decoding work that transcoding would save.

Reads the catalogue, and the first frame of a few videos.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from configs.cli import at_least
from dali_pipes.cut.plan import needed
from dali_pipes.errors import DataError
from dali_pipes.feed.choice import nvdec_decoders, on_a_gpu
from dali_pipes.scan import summary
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.summary import keyframe_interval
from dali_pipes.video.orientation import UPRIGHT, orientation
from dali_pipes.video.packet_table import Video
from dali_pipes.views.frames import uniform_draw
from tools.data.arguments import add_dataset_arguments, datasets
from tools.data.conversion import upright
from tools.data.conversion.reencode import recoloured

PACKETS_OF, PICTURES_OF = 1000, 50  # videos, evenly over the list, whose packets and first frames are read
INTERVALS = (16, 8, 1)
COMMON = 4  # number of codecs and sizes that are listed


def survey(catalog: Catalog, clip_frames: int) -> Iterator[tuple[str, str]]:
    """Yield (subject, text) of a dataset with readable videos, for clips of `clip_frames` frames."""
    rows = catalog.usable
    videos = [catalog.video(row) for row in _spread(rows, PACKETS_OF)]
    yield "classes", _classes(catalog)
    yield "frames", quantiles(catalog.frames_N[rows])
    timed = rows[catalog.fps_N[rows] > 0]
    if len(timed):
        yield "seconds", quantiles(catalog.frames_N[timed] / catalog.fps_N[timed])
    yield "codecs", _shares(catalog.codecs())
    sizes = Counter(zip(catalog.width_N[rows].tolist(), catalog.height_N[rows].tolist(), strict=True))
    yield "pictures", _shares({f"{width}x{height}": count for (width, height), count in sizes.items()})
    if videos[0].access != "frames":
        yield from _storage(catalog, videos)
        yield from _work(videos, clip_frames)
        yield from _looks(catalog)


def _storage(catalog: Catalog, videos: list[Video]) -> Iterator[tuple[str, str]]:
    """Yield the statistics of the files: sizes and keyframes."""
    rows = catalog.usable
    size_N = catalog.size_N[rows] / 1e6
    coded, shown = nvdec_decoders(catalog)
    yield "on a GPU", on_a_gpu(catalog)
    yield "NVDEC decoders", f"{coded}, one for each codec and coded size ({shown} sizes are shown); DALI keeps 100"
    yield "MB a file", f"{quantiles(size_N)}; {size_N.sum():.4g} in total"
    yield "keyframe every", f"{quantiles([keyframe_interval(video) for video in videos])} frames"
    yield "read as", _shares(Counter(video.access for video in videos))


def _work(videos: list[Video], clip_frames: int) -> Iterator[tuple[str, str]]:
    """Yield the decoding work of a clip, now and after transcoding."""
    now = np.mean([decoded_per_used(video, clip_frames) for video in videos])
    yield "frames decoded", f"{now:.1f} for each one used, in clips of {clip_frames}"
    for gop in INTERVALS:
        then = np.mean([after_transcoding(video.frames, gop, clip_frames) for video in videos])
        yield f"with --gop {gop}", f"{then:.1f}, once transcoded"


def decoded_per_used(video: Video, clip_frames: int) -> float:
    """Count the frames decoded for each frame of a training clip, averaged over clips."""
    if video.access == "whole":
        return len(video.packets) / clip_frames
    clips = drawn_clips(video.frames, clip_frames)
    return float(np.mean([len(needed(video, frames_T)) for frames_T in clips])) / clip_frames


def after_transcoding(frames: int, gop: int, clip_frames: int) -> float:
    """Count the same with a keyframe every `gop` frames and no B-frames: each group up to its last used frame."""
    clips = drawn_clips(frames, clip_frames)
    groups = [{frame // gop: frame % gop + 1 for frame in sorted(frames_T)} for frames_T in clips.tolist()]
    return float(np.mean([sum(group.values()) for group in groups])) / clip_frames


def drawn_clips(frames: int, clip_frames: int, clips: int = 16) -> np.ndarray:
    """Draw frame numbers [clips, clip_frames] as for training, the same for all videos of one length.

    So different ways to store or to read a video are compared on the same clips.
    """
    return uniform_draw(np.full(clips, frames), np.random.default_rng(0).random((clips, clip_frames)))


def quantiles(values) -> str:
    """Return the median and the 5th and 95th percentile, all of them values that occur."""
    low, median, high = map(_number, np.quantile(values, [0.05, 0.5, 0.95], method="inverted_cdf").tolist())
    return f"{median} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _classes(catalog: Catalog) -> str:
    counts = np.bincount(catalog.label_N[catalog.usable])
    text = f"{np.count_nonzero(counts)}, with {quantiles(counts[counts > 0])} videos"
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        text += f"; labels without a video: {', '.join(map(str, empty[:COMMON]))}"
    return text + (f" and {len(empty) - COMMON} more" if len(empty) > COMMON else "")


def _looks(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Yield the share of videos, of a sample, whose orientation or colours transcoding would correct."""
    firsts = [frame for row in _spread(catalog.usable, PICTURES_OF) if (frame := _first_picture(catalog.path(row)))]
    on_side = sum(orientation(frame) != UPRIGHT for frame in firsts)
    coloured = sum(map(recoloured, firsts))
    yield "rotated", f"{on_side} of {len(firsts)} sampled have a rotation flag, which every command follows"
    yield "other colours", f"{coloured} of {len(firsts)} sampled (transcode converts them to BT.601, limited range)"


def _first_picture(path: str):
    try:
        return next(upright.decoded(path), None)
    except DataError:
        return None


def _shares(counts: dict[str, int]) -> str:
    """Return the most frequent few, with their shares."""
    total = sum(counts.values())
    named = [f"{name} {100 * count / total:.0f} %" for name, count in Counter(counts).most_common(COMMON)]
    return ", ".join(named + ([f"{len(counts) - COMMON} more"] if len(counts) > COMMON else []))


def _spread(rows: np.ndarray, most: int) -> list[int]:
    """Return at most `most` of the rows, evenly spaced."""
    return rows[:: -(-len(rows) // most)].tolist()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument("--clip-frames", type=at_least(1), default=8, help="frames per clip (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    for source, data in datasets(arguments):
        catalog = load_catalog(source, replace(data, max_bad_fraction=1.0))
        print(f"{source}: {len(catalog)} rows, {len(summary.bad_files(catalog))} of their files unreadable")
        print("  medians, and in brackets the 5th to 95th percentile")
        found = list(survey(catalog, arguments.clip_frames))
        width = max(len(subject) for subject, _ in found)
        print("".join(f"  {subject:{width}}  {text}\n" for subject, text in found))
