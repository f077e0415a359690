"""Question 2: does DALI decode the right frames of whole and of cut files, and with which colours?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.session import Probe
from benchmarks.nvdec import remux, streams
from benchmarks.nvdec.scale import Scale
from benchmarks.nvdec.streams import FORMS, Stream
from dali_pipes.cut import decode
from dali_pipes.cut.cutter import Cut
from dali_pipes.feed import nvdec
from dali_pipes.video import container
from dali_pipes.video.packet_table import Video

MOST_SUSPECTS = 4  # maximum number of videos for which other ways of writing a cut are tried
_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # weights of red and blue


def run_section(probe: Probe) -> None:
    scale = probe.scale
    videos = {spec.name: spec for spec in scale.all_videos}
    awkward = {spec.name: spec for spec in scale.awkward}

    def compared(section: str, pairs: Iterable[tuple[str, str]]) -> dict[str, tuple]:
        here = scale, probe.folder
        return {
            f"{section}/{name}/{form}": (compare_frames, *here, (videos | awkward)[name], form) for name, form in pairs
        }

    plain = compared("frames", product(videos, FORMS)) | compared("awkward", product(awkward, ["cut"]))
    coloured = {f"colours/{spec.name}": (compare_colours, scale, probe.folder, spec) for spec in scale.coloured}
    write_videos(probe.folder, [case[3] for case in probe.wanted(plain | coloured).values()])
    answers = probe.run(plain | coloured)
    wrong = [name for name in videos if answers.get(f"frames/{name}/cut", {}).get("wrong", 1)]
    usual = [name for name, spec in videos.items() if spec.interval == scale.usual.interval]
    suspects = _some(wrong or usual) if probe.wanted(plain) else videos  # a variant alone: of any video
    probe.run(compared("variants", ((name, form) for name in suspects for form in remux.variants(videos[name].codec))))


def _some(names: list[str]) -> list[str]:
    """Select at most MOST_SUSPECTS of them, spread over the list."""
    return names[:: -(-len(names) // MOST_SUSPECTS)]


def compare_frames(scale: Scale, folder: Path, spec: VideoSpec, form: str) -> dict:
    """Count the wrong frames of several clips, and measure the pixel difference from PyAV."""
    video = streams.scanned(folder, spec)
    clips = _clips(video, scale.clip_frames)
    made = [_form(video, wanted, form) for wanted in clips]
    decoded = streams.decode(made, scale.head, scale.device)
    wrong = streams.wrong_frames(decoded, clips)
    expected = _full_decode(folder, spec)[np.concatenate(clips)]
    return {
        "frames": sum(map(len, clips)),
        "wrong": len(wrong),
        "first_wrong": wrong[0] if wrong else None,
        "refusal": refusal.reason if (refusal := nvdec.refusal(video)) else "",
        **_difference(np.concatenate(decoded), expected),
        "packets_per_frame": sum(stream.packets for stream in made) / sum(map(len, clips)),
        "bytes_per_clip": sum(len(stream.data) for stream in made) / len(made),
    }


def _clips(video: Video, frames: int) -> list[np.ndarray]:
    """Return clips as training draws them, and both ends of the video."""
    ends = np.arange(frames), np.arange(video.frames - frames, video.frames)
    return [*(streams.clip_frames(video, frames, clip) for clip in range(6)), *ends]


def _form(video: Video, wanted: np.ndarray, form: str) -> Stream:
    if form in FORMS:
        return FORMS[form](video, wanted)
    plain = streams.cut(video, wanted)
    data = remux.variants(video.codec)[form](video, plain.data)
    return Stream(data, plain.positions, wanted, plain.packets)


@lru_cache(maxsize=1)  # the cases of a video follow one another
def _full_decode(folder: Path, spec: VideoSpec) -> np.ndarray:
    """Decode every frame of the whole file with PyAV: [F, H, W, 3] uint8."""
    video = streams.scanned(folder, spec)
    everything = streams.whole(video, np.arange(video.frames))
    shape = video.height, video.width
    return decode.decode_frames(Cut(everything.data, everything.positions, video.frames, shape), video.path)


def _difference(got: np.ndarray, expected: np.ndarray) -> dict:
    """Return the difference in grey levels. Raises ValueError if the sizes differ."""
    if got.shape != expected.shape:
        raise ValueError(f"decoded pictures are {got.shape}, expected {expected.shape}")
    apart = np.abs(got.astype(np.int16) - expected)
    return {"mean_difference": float(apart.mean()), "largest_difference": int(apart.max())}


def compare_colours(scale: Scale, folder: Path, spec: VideoSpec) -> dict:
    """Return the mean and largest difference from each conversion to RGB, and the nearest one."""
    video = streams.scanned(folder, spec)
    wanted = np.arange(scale.clip_frames)
    (decoded,) = streams.decode([streams.whole(video, wanted)], scale.head, scale.device)
    planes = _planes(video, len(wanted))
    apart = {
        f"{matrix}-{span}": _difference(decoded, _to_rgb(*planes, matrix, span))
        for matrix in _LUMA
        for span in ("limited", "full")
    }
    return {"nearest": min(apart, key=lambda name: apart[name]["mean_difference"]), "apart": apart}


def _planes(video: Video, count: int) -> list[np.ndarray]:
    """Return Y, Cb and Cr of the first frames before conversion: [count, H, W] float, chroma repeated."""
    with container.open_video(video.path) as (source, stream):
        frames = [frame for _, frame in zip(range(count), source.decode(stream), strict=False)]
    planes = [np.stack([_plane(frame.planes[index]) for frame in frames]).astype(float) for index in range(3)]
    luma, *chroma = planes
    rows, columns = luma.shape[1:]
    return [luma, *(plane.repeat(2, 1).repeat(2, 2)[:, :rows, :columns] for plane in chroma)]


def _plane(plane) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _to_rgb(luma: np.ndarray, blueness: np.ndarray, redness: np.ndarray, matrix: str, span: str) -> np.ndarray:
    """Convert to RGB, [N, H, W, 3] uint8 (ITU-R BT.601 and BT.709; limited: luma 16 to 235, chroma 16 to 240)."""
    red_weight, blue_weight = _LUMA[matrix]
    low, luma_span, chroma_span = (16, 219, 224) if span == "limited" else (0, 255, 255)
    y, cb, cr = (luma - low) / luma_span, (blueness - 128) / chroma_span, (redness - 128) / chroma_span
    red, blue = y + 2 * (1 - red_weight) * cr, y + 2 * (1 - blue_weight) * cb
    green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return np.rint(255 * np.stack([red, green, blue], -1)).clip(0, 255).astype(np.uint8)
