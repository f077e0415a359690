"""Write the generated demo dataset: scenes seen through a window that pans up, down, left or right.

Every scene appears in all four classes, and opposite directions show the same frames in reverse order. A single frame
shows at best the axis, by its motion blur; only the order of the frames shows the direction. So a network that ignores
frame order reaches at most half, and one with a temporal shift nearly all.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np

from configs.cli import at_least
from dali_pipes.lists.writing import as_lines
from engine.files import temporary_path
from engine.outputs import Outputs, add_force_argument

CLASSES = ("pan_down", "pan_left", "pan_right", "pan_up")
SIDE = 80  # pixels of a stored frame
FRAMES = 32
KEYFRAME_EVERY = 8
SAME_BYTES = {"threads": "1", "x264-params": "no-asm=1"}  # with AVX-512, x264 may write other bytes from run to run
FINE = 2  # scenes are drawn this much finer than they are shown, so that speeds have fractions of pixels


def write_demo_set(
    root: Path, scenes: dict[str, int], seed: int = 0, workers: int = 2, outputs: Outputs | None = None
) -> int:
    """Write `scenes[split]` scenes of each split as mp4 files with a list `split.list`; returns how many files.

    A scene's number is its only source of randomness, so the same call writes the same set. Videos that exist are kept.
    Raises ConfigError if another list is in the way.
    """
    numbers, texts = [], {root / "classes.txt": as_lines(CLASSES)}
    for split, count in scenes.items():
        scenes_of_split = range(len(numbers), len(numbers) + count)
        numbers += scenes_of_split
        lines = [f"{name} {label}" for number in scenes_of_split for label, name in enumerate(_names(number))]
        texts[root / f"{split}.list"] = as_lines(lines)
    root.mkdir(parents=True, exist_ok=True)
    (outputs or Outputs()).write(texts)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_write_scene, root, seed), numbers))
    return len(numbers) * len(CLASSES)


def _names(number: int) -> list[str]:
    """Return the file names of a scene in all classes, relative to the root."""
    return [f"{label}/scene{number:04d}.mp4" for label in CLASSES]


def _write_scene(root: Path, seed: int, number: int) -> None:
    """Write the files of one scene that do not exist yet."""
    random = np.random.default_rng((seed, number))
    names = _names(number)
    missing = [name for name in names if not os.path.lexists(root / name)]
    if not missing:
        return
    speed = random.uniform(0.8, 1.8)
    scene = draw_scene(random, FINE * (SIDE + int(2 * FRAMES)))
    down, right = pan(scene, speed, axis=0), pan(scene, speed, axis=1)
    for name, frames_THWC in zip(names, (down, right[::-1], right, down[::-1]), strict=True):
        if name in missing:
            _write_video(root / name, frames_THWC)


def draw_scene(random: np.random.Generator, side: int) -> np.ndarray:
    """Draw a picture [side, side, 3], uint8: coloured noise with the spectrum of natural images, and solid shapes."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    spectrum = np.fft.rfft2(random.standard_normal((3, side, side))) / np.maximum(frequency, 1 / side)
    noise = np.fft.irfft2(spectrum, s=(side, side)).transpose(1, 2, 0) @ random.uniform(-1, 1, (3, 3))
    picture = 128 + 45 * (noise - noise.mean()) / noise.std()
    rows, columns = np.mgrid[:side, :side]
    for _ in range(side // 8):
        row, column = random.uniform(0, side, 2)
        height, width = random.uniform(side / 40, side / 10, 2)
        inside = np.maximum(abs(rows - row) / height, abs(columns - column) / width) < 1
        picture[inside] = 0.3 * picture[inside] + 0.7 * random.uniform(0, 255, 3)
    return picture.clip(0, 255).astype(np.uint8)


def pan(scene: np.ndarray, speed: float, axis: int) -> np.ndarray:
    """Return frames [FRAMES, SIDE, SIDE, 3] of a window that moves `speed` pixels a frame along `axis`, blurred."""
    window = FINE * SIDE
    middle = (scene.shape[0] - window) // 2
    shutter = np.arange(-2, 3) / 4  # of a frame: blur that looks the same in both directions
    frames = []
    for frame in range(FRAMES):
        starts = (FINE * speed * (frame + 0.5 + shutter)).astype(int)
        corners = [(start, middle) if axis == 0 else (middle, start) for start in starts]
        views = [scene[top : top + window, left : left + window] for top, left in corners]
        total = np.sum(views, axis=0, dtype=np.int64)  # whole numbers: means of floats depend on the order of adding
        frames.append(total.reshape(SIDE, FINE, SIDE, FINE, 3).sum((1, 3)) / (len(views) * FINE**2))
    return np.stack(frames).round().astype(np.uint8)


def _write_video(path: Path, frames_THWC: np.ndarray) -> None:
    """Write an H.264 mp4 that is fast to read: short groups, no B-frames, index first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(path.parent) as unfinished:
        _encode(unfinished, frames_THWC)
        unfinished.rename(path)


def _encode(path: Path, frames_THWC: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25, width=SIDE, height=SIDE)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast", "g": str(KEYFRAME_EVERY), "bf": "0", **SAME_BYTES}
        for frame in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to (%(default)s)")
    add_force_argument(parser)
    parser.add_argument("--scenes", type=at_least(1), nargs=2, default=(120, 40), metavar=("TRAIN", "VAL"))


def run(arguments: argparse.Namespace) -> None:
    train, val = arguments.scenes
    files = write_demo_set(arguments.out, {"train": train, "val": val}, outputs=Outputs(force=arguments.force))
    print(f"{files} videos of {train} training and {val} held-out scenes in {arguments.out}")
