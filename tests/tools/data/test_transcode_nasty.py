"""Transcoding of every nasty file: all frames, close to the source, or the file is left out with a reason."""

import json
from collections import Counter

import av
import numpy as np
import pytest
from PIL import Image

from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import LENIENT_TAGS
from tools import prepare

CLIP = 8
FLOOR = 22  # decibels, for every file, at the default settings; small drawn test pictures are the hardest to scale
TYPICAL = 33  # for the median file

pytestmark = pytest.mark.slow


def link_set(nasty, folder):
    """Write a list of links to all files."""
    names = sorted(path.name for path in nasty.iterdir() if path.suffix not in (".md", ".txt"))
    for name in names:
        (folder / name).symlink_to(nasty / name)
    (folder / "nasty.list").write_text("".join(f"{name} 0\n" for name in names))
    return folder / "nasty.list", names


def rotation(path: str) -> int:
    """Return the quarter turns to the left that make a file's pictures upright, as FFmpeg reads it."""
    with av.open(path, **LENIENT_TAGS) as container:
        return next(container.decode(video=0)).rotation // 90


def psnr_of_clip(source: Video, new: Video) -> float:
    """Return the PSNR in decibels of random frames of the new file against the source, scaled by Pillow."""
    frames = np.random.default_rng(0).integers(0, source.frames, CLIP)
    stored = decode_frames(cut(new, frames), new.path)
    turns = rotation(source.path)
    shown = [np.rot90(picture, turns) for picture in decode_frames(cut(source, frames), source.path)]
    scaled = np.stack([Image.fromarray(p).resize((new.width, new.height), Image.Resampling.BICUBIC) for p in shown])
    return 10 * np.log10(255**2 / max(1e-3, np.mean((stored.astype(float) - scaled) ** 2)))


def test_every_nasty_file_is_transcoded_faithfully_or_left_out_with_a_reason(shared, tmp_path):
    source, names = link_set(shared / "data" / "nasty", tmp_path)
    assert prepare.main(["transcode", str(source), "--out", str(tmp_path / "new"), "--workers", "1"]) == 0
    assert prepare.main(["verify", str(tmp_path / "new" / "nasty.list"), "--full"]) == 0

    records = [json.loads(line) for line in (tmp_path / "new" / "done.jsonl").read_text().splitlines()]
    left_out = [json.loads(line) for line in (tmp_path / "new" / "left_out.jsonl").read_text().splitlines()]
    assert len(records) + len(left_out) == len(names)
    scanned = {bad[1]: bad[2] for bad in Catalog(tmp_path / "nasty.list.scan" / "catalog").unreadable}
    assert {entry["path"]: entry["reason"] for entry in left_out} == scanned

    decibels = {}
    for record in records:
        old, new = probe(record["source"]["path"]), probe(str(tmp_path / "new" / record["result"]))
        assert new.frames == old.frames == record["frames"]
        assert new.width % 16 == new.height % 16 == 0
        decibels[record["result"]] = psnr_of_clip(old, new)
    changes = Counter(change for record in records for change in record["changes"])
    worst = sorted(decibels, key=decibels.get)[:5]
    print(f"{len(records)} of {len(names)} files; PSNR median {np.median(list(decibels.values())):.1f} dB, lowest:")
    print("".join(f"  {decibels[name]:.1f} {name}\n" for name in worst), dict(changes))
    assert min(decibels.values()) > FLOOR
    assert np.median(list(decibels.values())) > TYPICAL
