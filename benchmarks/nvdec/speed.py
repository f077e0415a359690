"""Question 3: how many clips per second can be decoded, in which form, with how many threads, compared with what?

Decodes bytes in memory to RGB frames on the device. Every decoder is first checked for the right frames; then
those of a group are timed alternately.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

from benchmarks.harness.measure import summary
from benchmarks.harness.numbered_videos import write_videos
from benchmarks.harness.session import Probe
from benchmarks.nvdec.contenders import Contender, Ready, make_ready
from benchmarks.nvdec.scale import Scale
from benchmarks.nvdec.streams import wrong_frames

WHOLE_SHARE = 4  # divides the number of clips for whole files, which take longer


def run_section(probe: Probe) -> None:
    scale, folder = probe.scale, probe.folder
    cases = [
        {f"speed/{group}/{member.name}": (time_once, scale, folder, member) for member in members}
        for group, members in groups(scale).items()
    ]
    wanted = [contender for group in cases for *_, contender in probe.wanted(group).values()]
    write_videos(folder, [contender.video for contender in wanted])
    probe.run_alternately(cases, _summary)


def _summary(answers: list[dict]) -> dict:
    return answers[0] | summary(answers, "clips_per_s")


def groups(scale: Scale) -> dict[str, list[Contender]]:
    """Return the groups to compare. The odd width is alone and last: it may evict others from DALI's decoder cache."""
    usual = Contender("dali", scale.usual, scale.usual_threads, scale.batches[0])
    large = replace(usual, batch=scale.batches[-1])
    cores = len(os.sched_getaffinity(0))
    loads = (0.0, 0.65, 1.0) if scale.device == "gpu" else (0.0,)

    def of(**changes) -> Contender:
        return replace(usual, video=replace(scale.usual, **changes))

    every_interval = [of(interval=interval) for interval in scale.intervals]
    return {
        "interval": [*every_interval, *(replace(contender, form="whole") for contender in every_interval)],
        "threads": [replace(usual, threads=t, batch=b) for b in scale.batches for t in scale.threads],
        "stream": [
            usual,
            *(of(b_frames=b_frames) for b_frames in scale.b_frames[1:]),
            *(of(codec=codec, interval=interval) for codec in scale.codecs[1:] for interval in scale.intervals),
            large,
            *(replace(large, joined=clips) for clips in scale.joined),
        ],
        "other": [
            *(Contender("pyav", contender.video, cores) for contender in every_interval),
            *(Contender("jpeg", scale.usual, cores, large.batch, hardware_load=load) for load in loads),
        ],
        "width": [replace(of(width=scale.odd_width), form=form) for form in ("uncropped", "cut")],
    }


def time_once(scale: Scale, folder: Path, contender: Contender) -> dict:
    """Return the clips per second of one repeat, and the constants of the case."""
    clips = scale.clips // (WHOLE_SHARE if contender.form == "whole" else 1)
    ready = _proven(scale, folder, contender, clips)
    began = time.perf_counter()
    ready.run()
    seconds = time.perf_counter() - began
    frames = clips * scale.clip_frames
    counts = {"decoded_per_frame": ready.packets / frames, "bytes_per_clip": round(ready.size / clips)}
    return {"clips_per_s": clips / seconds, "clips": clips, **counts}


@cache
def _proven(scale: Scale, folder: Path, contender: Contender, clips: int) -> Ready:
    """Prepare a decoder once per process; checking its frames warms it up. Raises ValueError if they are wrong."""
    ready = make_ready(scale, folder, contender, clips)
    wrong = wrong_frames(ready.pictures(), ready.wanted)
    if wrong:
        raise ValueError(f"{len(wrong)} of {clips * scale.clip_frames} frames are wrong; the first: {wrong[0]}")
    return ready
