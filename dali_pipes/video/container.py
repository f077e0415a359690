"""Open a video file or shard member safely with FFmpeg: without network, playlists or special file names.

This module opens files, chooses the video stream, and words FFmpeg's errors.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from dali_pipes.errors import DataError
from dali_pipes.storage.opening import is_plain, open_source
from dali_pipes.video.pyav import LENIENT_TAGS

# A playlist (HLS, DASH, concat) or an image sequence would make FFmpeg open other files, or the network. These are for
# the container alone: PyAV 15 and 16 crash where streams that come up later (MPEG-2's) would take options, too.
_CONTAINER_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,m4v,mjpeg,flv,live_flv,asf,asf_o,"
    "ogg,rm,mxf,dv,nut,vc1,wtv,gif,apng,yuv4mpegpipe,vvc,evc,dirac,h261,h263,cavsvideo,avs2,avs3,dnxhd,gxf,swf,nsv,nuv,"
    "dhav,ipu,smk,bink,flic,roq,vmd,4xm,film_cpk,vivo",
}


@contextmanager
def open_video(path: str, content: bytes | BinaryIO | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the video at `path`, or `content` (then `path` is only for messages); yield the container and its video
    stream.

    FFmpeg's errors in the block become DataErrors. The path is made absolute, so that no name is interpreted as a
    protocol (`concat:`, `http:`).
    """
    with ExitStack() as opened:
        if content is None and not is_plain(path):
            content = opened.enter_context(open_source(path)).file_object()
        if isinstance(content, (bytes, bytearray)):
            content = io.BytesIO(content)
            content.name = path  # FFmpeg uses the suffix to recognise raw streams
        source = os.path.abspath(path) if content is None else content
        opened.enter_context(refusals(path))
        container = opened.enter_context(av.open(source, container_options=_CONTAINER_OPTIONS, **LENIENT_TAGS))
        yield container, _best_stream(path, container)


def _best_stream(path: str, container: InputContainer) -> VideoStream:
    """Return FFmpeg's best video stream (av_find_best_stream) that is not a cover picture."""
    streams = video_tracks(container)
    if not streams:
        raise DataError(path, f"contains no video, only {_kinds(container)}")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise DataError(path, "FFmpeg has no decoder for its video")
    return stream


def video_tracks(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Convert FFmpeg's errors in the block to a DataError about `path`."""
    try:
        yield
    except av.FFmpegError as error:
        raise DataError(path, _reason(error)) from error


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yield the stream's packets in decode order, without empty ones and without the flush at the end.

    A plain decode has no frame for empty packets either.
    """
    return (packet for packet in demuxed(container, stream) if packet.size)


def demuxed(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yield all of the stream's packets, including empty ones and the flush at the end. Raises DataError."""
    try:
        yield from container.demux(stream)
    except IndexError as error:  # PyAV does not see tracks that FFmpeg finds after the file was opened
        raise DataError(container.name, "has a track that begins in the middle of the file") from error


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted(set(map(_kind, container.streams)))) or "an empty container"


def _kind(stream: Stream) -> str:
    if type(stream) is Stream:  # PyAV 15 and 16 crash at `stream.type`
        return "something unknown"
    return "a cover picture" if stream.type == "video" else stream.type


def _reason(error: av.FFmpegError) -> str:
    if isinstance(error, av.InvalidDataError):
        return "is damaged, or not a video"
    if error.errno == errno.EINVAL:  # raised for a format that is not allowed
        return "is not in a format that is read as video"
    return f"cannot be read ({error.strerror})"
