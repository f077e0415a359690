"""Direct access to NVIDIA's decoding library: the capabilities of the GPU, and the cost of creating a decoder.

Structures as in the Video Codec SDK's `cuviddec.h` (13.0); a CUDA context must be current in the calling thread.
"""

from __future__ import annotations

import ctypes
import time
from ctypes import c_int, c_short, c_ubyte, c_uint, c_ulong, c_ushort, c_void_p

from dali_pipes.feed.nvdec import library

CODECS = {"mpeg4": 2, "h264": 4, "mjpeg": 5, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11}  # cudaVideoCodec
_YUV420, _NV12, _PREFER_CUVID = 1, 0, 4
_SURFACES = 8  # decoded pictures that a decoder keeps: what a stream of four reference pictures takes


class Capabilities(ctypes.Structure):
    """The structure CUVIDDECODECAPS."""

    _fields_ = (
        ("codec", c_int),
        ("chroma", c_int),
        ("bit_depth_minus_8", c_uint),
        ("reserved1", c_uint * 3),
        ("supported", c_ubyte),
        ("engines", c_ubyte),
        ("output_formats", c_ushort),
        ("max_width", c_uint),
        ("max_height", c_uint),
        ("max_macroblocks", c_uint),
        ("min_width", c_ushort),
        ("min_height", c_ushort),
        ("histogram", c_ubyte),
        ("counter_bit_depth", c_ubyte),
        ("max_histogram_bins", c_ushort),
        ("reserved3", c_uint * 10),
    )


class Creation(ctypes.Structure):
    """The structure CUVIDDECODECREATEINFO."""

    _fields_ = (
        ("width", c_ulong),
        ("height", c_ulong),
        ("decode_surfaces", c_ulong),
        ("codec", c_int),
        ("chroma", c_int),
        ("flags", c_ulong),
        ("bit_depth_minus_8", c_ulong),
        ("intra_only", c_ulong),
        ("max_width", c_ulong),
        ("max_height", c_ulong),
        ("reserved1", c_ulong),
        ("display_area", c_short * 4),
        ("output_format", c_int),
        ("deinterlace", c_int),
        ("target_width", c_ulong),
        ("target_height", c_ulong),
        ("output_surfaces", c_ulong),
        ("lock", c_void_p),
        ("target_rectangle", c_short * 4),
        ("histogram", c_ulong),
        ("reserved2", c_ulong * 4),
    )


def capabilities(codec: str, bit_depth: int) -> dict:
    """Return the capabilities for a codec in 4:2:0: `supported`, `engines`, sizes in pixels. Raises RuntimeError."""
    asked = Capabilities(codec=CODECS[codec], chroma=_YUV420, bit_depth_minus_8=bit_depth - 8)
    _check(library().cuvidGetDecoderCaps(ctypes.byref(asked)), "cuvidGetDecoderCaps")
    names = ("engines", "min_width", "min_height", "max_width", "max_height", "max_macroblocks")
    return {"supported": bool(asked.supported), **{name: getattr(asked, name) for name in names}}


def create_decoders(codec: str, width: int, height: int, most: int, seconds: float) -> tuple[list[float], str | None]:
    """Create up to `most` decoders at once; return the milliseconds of each, and the error that ended it, if any.

    `width` and `height` are those of the frames, which are coded in whole macroblocks. Creation stops after `seconds`.
    """
    cuvid, decoders, took = library(), [], []
    settings = _settings(codec, width, height)
    end, error = time.perf_counter() + seconds, None
    while len(decoders) < most and time.perf_counter() < end:
        decoder, began = c_void_p(), time.perf_counter()
        status = cuvid.cuvidCreateDecoder(ctypes.byref(decoder), ctypes.byref(settings))
        if status:
            error = f"cuvidCreateDecoder answered CUDA error {status}"
            break
        took.append(1000 * (time.perf_counter() - began))
        decoders.append(decoder)
    for decoder in decoders:
        _check(cuvid.cuvidDestroyDecoder(decoder), "cuvidDestroyDecoder")
    return took, error


def _settings(codec: str, width: int, height: int) -> Creation:
    coded_width, coded_height = (-(-side // 16) * 16 for side in (width, height))
    return Creation(
        width=coded_width,
        height=coded_height,
        max_width=coded_width,
        max_height=coded_height,
        decode_surfaces=_SURFACES,
        codec=CODECS[codec],
        chroma=_YUV420,
        flags=_PREFER_CUVID,
        display_area=(0, 0, width, height),
        output_format=_NV12,
        target_width=width,
        target_height=height,
        output_surfaces=2,
    )


def _check(status: int, function: str) -> None:
    if status:
        raise RuntimeError(f"{function} answered CUDA error {status}")
