"""Choose the reader of a stream's packets by its codec."""

from __future__ import annotations

from collections.abc import Callable

from dali_pipes.video.bitstream.av1 import Av1
from dali_pipes.video.bitstream.h264 import H264
from dali_pipes.video.bitstream.hevc import Hevc
from dali_pipes.video.bitstream.mpeg import FixedHeader, Mjpeg, Mpeg2, Mpeg4
from dali_pipes.video.bitstream.picture import Reader
from dali_pipes.video.bitstream.vpx import Vp8, Vp9

READERS: dict[str, Callable[[bytes, str], Reader]] = {
    "h264": lambda extradata, tag: H264(extradata),
    "hevc": lambda extradata, tag: Hevc(extradata),
    "av1": lambda extradata, tag: Av1(extradata),
    "vp8": lambda extradata, tag: Vp8(),
    "vp9": lambda extradata, tag: Vp9(),
    "mpeg4": Mpeg4,
    "mpeg1video": Mpeg2,
    "mpeg2video": Mpeg2,
    "mjpeg": lambda extradata, tag: Mjpeg(),
    "prores": lambda extradata, tag: FixedHeader(slice(16, 21)),
    "dnxhd": lambda extradata, tag: FixedHeader(slice(24, 28)),
}
"""By FFmpeg's name of the codec, from the stream's extradata and its tag (`avc1`, `XVID`, ...)."""


def make_reader(codec: str, extradata: bytes, tag: str) -> Reader | None:
    """Return a reader for a stream; None if the codec is not read here.

    Raises ValueError or IndexError if the extradata is malformed.
    """
    make = READERS.get(codec)
    return make(extradata, tag) if make else None
