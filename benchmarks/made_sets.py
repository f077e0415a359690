"""Sets of videos made to measure with: as many, as long and stored as a case wants them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from benchmarks.numbered_videos import VideoSpec, write_videos
from configs import Config

KINDS = {"interval": int, "frames": int, "width": int, "height": int, "b_frames": int, "codec": str, "count": int}
COUNT = 64  # files of a set; all show the same, since what is in a picture costs no decoder anything


def with_set(config: Config, folder: Path, words: dict[str, str]) -> Config:
    """`config` reading a set made as `words` say, such as {"interval": "16"}; as it is where there are none."""
    if not words:
        return config
    values = {name: KINDS[name](value) for name, value in words.items()}
    count = values.pop("count", COUNT)
    spec = VideoSpec(**{"codec": "h264", "interval": 16, **values})
    write_videos(folder, [spec])
    files = folder / f"{spec.name}-{spec.frames}f"
    files.mkdir(exist_ok=True)
    classes = config.model.num_classes
    lines = []
    for number in range(count):
        lines.append(f"{number:06}.mp4 {number % classes}")
        if not (file := files / f"{number:06}.mp4").exists():
            os.link(spec.path(folder), file)
    listing = files / f"{count}.list"
    listing.write_text("\n".join(lines) + "\n")
    return replace(config, data=replace(config.data, root=str(files), train=str(listing), class_names="", val=""))
