"""Shorten DALI's errors, and test if NVDEC works on a GPU."""

from __future__ import annotations

import re
from functools import cache

import torch
from nvidia.dali import fn, pipeline_def, types

from dali_pipes.feed import nvdec
from dali_pipes.feed.decoders import Content, example
from dali_pipes.feed.graph import decode_video

FAILURES = (RuntimeError, MemoryError)  # exceptions that DALI raises
_WHERE = ("Critical error", "Current pipeline", "Stacktrace", "C++ context", "[frame")  # lines with the location


@cache
def why_nvdec_fails(device: torch.device) -> str:
    """Decode a frame with NVDEC on this GPU; return the reason if that fails, otherwise an empty string."""
    try:
        nvdec.library()  # without the library, DALI's message is only an error number
        decoding_graph([example("mixed")], "mixed", batch_size=1, num_threads=1, device_id=device.index or 0).run()
    except (OSError, *FAILURES) as error:
        return f"NVDEC does not work here: {dali_reason(error)}"
    return ""


@pipeline_def
def decoding_graph(contents: list[Content], where: str):
    """Define a pipeline that only decodes cut files; `where` is the decoder's device, `cpu` or `mixed`."""
    batch = [[content.encoded for content in contents], [content.position_U for content in contents]]
    encoded, position_U = fn.external_source(
        source=lambda: batch, num_outputs=2, batch=True, dtype=[types.UINT8, types.INT32], ndim=[1, 1]
    )
    return decode_video(encoded, position_U, where)


def dali_reason(error: Exception) -> str:
    """Return the reason of a DALI error in one line, without stack traces and locations in the graph."""
    text = str(error)
    text = text.partition("encountered:")[2] or text
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_WHERE)]
    reason = re.sub(r"^(\[[^\]]*\] *)?(Assert on \".*?\" failed: )?", "", " ".join(lines[:2]))
    return reason or type(error).__name__
