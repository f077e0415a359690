"""A corpus of small videos, made by remuxing and by editing boxes and bits: codec x container x trait."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av

from dali_pipes.video import mp4
from dali_pipes.video.bitstream.units import length_size, parameter_units
from tests.support.files.boxes import TABLE, add_to_entry, edit, edit_entry, sized, without
from tests.support.videos import picture

FRAMES, GOP, SIZE = 24, 8, (48, 64)
_TIME_BASE = Fraction(1, 1000)
_TICKS = 40  # ticks of a frame

_LENGTHS = ("mp4", "mov", "mkv")
CODECS = {  # name: encoder, its options, pixel format, containers
    "h264": ("libx264", {"bf": "2", "x264-params": "scenecut=0"}, "yuv420p", (*_LENGTHS, "ts", "h264", "flv", "avi")),
    "h264 no B": ("libx264", {"bf": "0", "x264-params": "scenecut=0"}, "yuv420p", (*_LENGTHS, "ts")),
    "h264 pyramid": ("libx264", {"bf": "3", "x264-params": "scenecut=0:open-gop=1:b-pyramid=2"}, "yuv420p", _LENGTHS),
    "h264 interlaced": ("libx264", {"bf": "1", "x264-params": "interlaced=1:scenecut=0"}, "yuv420p", ("mp4", "ts")),
    "h264 4:4:4": ("libx264", {"bf": "1", "x264-params": "scenecut=0"}, "yuv444p", ("mp4", "mkv")),
    "h264 slices": ("libx264", {"bf": "1", "x264-params": "slices=3:scenecut=0"}, "yuv420p", ("mp4", "ts")),
    "hevc": ("libx265", {"x265-params": "log-level=none:scenecut=0:bframes=2"}, "yuv420p", (*_LENGTHS, "ts", "hevc")),
    "hevc closed": (
        "libx265",
        {"x265-params": "log-level=none:scenecut=0:open-gop=0:bframes=1"},
        "yuv420p",
        ("mp4", "mkv"),
    ),
    "vp8": ("libvpx", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}, "yuv420p", ("webm", "ivf", "avi")),
    "vp9": (
        "libvpx-vp9",
        {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"},
        "yuv420p",
        ("webm", "mp4", "ivf"),
    ),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}, "yuv420p", ("mkv", "mp4", "ivf")),
    "mpeg4": ("mpeg4", {"bf": "2"}, "yuv420p", (*_LENGTHS, "avi", "ts")),
    "mpeg4 no B": ("mpeg4", {"bf": "0"}, "yuv420p", ("mp4", "avi")),
    "mpeg2": ("mpeg2video", {"bf": "2"}, "yuv420p", (*_LENGTHS, "mpg", "ts", "m2v", "avi")),
    "mpeg1": ("mpeg1video", {"bf": "1"}, "yuv420p", ("mpg", "avi", "mkv")),
    "mjpeg": ("mjpeg", {}, "yuvj420p", ("mp4", "avi", "mkv")),
    "prores": ("prores_ks", {}, "yuv422p10le", ("mov", "mkv")),
    "ffv1": ("ffv1", {}, "yuv420p", ("mkv", "avi")),
    "wmv2": ("wmv2", {}, "yuv420p", ("asf", "avi")),
    "flv1": ("flv", {}, "yuv420p", ("flv", "avi")),
    "msmpeg4": ("msmpeg4", {}, "yuv420p", ("avi", "mkv")),
}
_MUXERS = {"m2v": "mpeg2video"}  # muxers that are not named by the suffix


@dataclass(frozen=True)
class Unit:
    """A packet to be muxed."""

    data: bytes
    pts: int
    dts: int
    key: bool


@dataclass(frozen=True)
class Clip:
    """An encoded clip: a file with its stream, and its packets."""

    source: bytes
    units: tuple[Unit, ...]
    codec: str
    extradata: bytes


@cache
def encoded(name: str, size: tuple[int, int] = SIZE, container: str = "mkv") -> Clip:
    """Encode pictures 0 to FRAMES - 1."""
    encoder, options, pixels, _ = CODECS[name]
    target = io.BytesIO()
    with av.open(target, "w", format=_muxer(container)) as out:
        stream = out.add_stream(encoder, rate=25, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = GOP
        stream.codec_context.thread_count = 1
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(io.BytesIO(target.getvalue())) as file:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.size]
        first = min(packet.pts for packet in packets)
        units = tuple(
            Unit(bytes(p), round((p.pts - first) * p.time_base / _TIME_BASE), (n - 4) * _TICKS, p.is_keyframe)
            for n, p in enumerate(packets)
        )
        return Clip(
            target.getvalue(), units, stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
        )


def mux(clip: Clip, container: str, *, still: bool = False) -> bytes:
    """Mux the packets of a clip; `still`: after a track with one JPEG picture."""
    target = io.BytesIO()
    options = {"movflags": "empty_moov+frag_keyframe"} if container == "fragmented" else {}
    with (
        av.open(io.BytesIO(clip.source)) as source,
        av.open(io.BytesIO(encoded("mjpeg").source)) as jpeg,
        av.open(target, "w", format=_muxer(container), options=options) as out,
    ):
        if still:
            track = out.add_stream_from_template(jpeg.streams.video[0])
        stream = out.add_stream_from_template(source.streams.video[0])
        if still:
            _mux_one(out, track, encoded("mjpeg").units[0])
        for unit in clip.units:
            _mux_one(out, stream, unit)
    return target.getvalue()


def _mux_one(out: av.container.OutputContainer, stream: av.VideoStream, unit: Unit) -> None:
    packet = av.Packet(unit.data)
    packet.stream, packet.time_base = stream, _TIME_BASE
    packet.pts, packet.dts, packet.is_keyframe = unit.pts, unit.dts, unit.key
    out.mux(packet)


def _muxer(container: str) -> str:
    names = {"mkv": "matroska", "ts": "mpegts", "mpg": "vob", "fragmented": "mp4", **_MUXERS}
    return names.get(container, container)


Change = Callable[[Clip], Clip]


def _units(change: Callable[[list[Unit]], list[Unit]]) -> Change:
    return lambda clip: replace(clip, units=tuple(change(list(clip.units))))


def _swap_times(units: list[Unit]) -> list[Unit]:
    """Exchange the times of the last picture before the second keyframe and of that keyframe."""
    second = [place for place, unit in enumerate(units) if unit.key][1:2]
    if second:
        a, b = second[0] - 1, second[0]
        units[a], units[b] = replace(units[a], pts=units[b].pts), replace(units[b], pts=units[a].pts)
    return units


def _repeat_time(units: list[Unit]) -> list[Unit]:
    units[5] = replace(units[5], pts=units[4].pts)
    return units


def _with(place: int, data: bytes) -> Callable[[list[Unit]], list[Unit]]:
    return lambda units: [replace(unit, data=data) if n == place else unit for n, unit in enumerate(units)]


def _after(clip: Clip, other: Clip) -> Clip:
    """Append another clip, with its parameter sets in its first packet."""
    shift = FRAMES * _TICKS
    units = [replace(unit, pts=unit.pts + shift, dts=unit.dts + shift) for unit in other.units]
    if clip.codec == "mpeg4":
        units[0] = replace(units[0], data=other.extradata + units[0].data)
    if clip.codec in ("h264", "hevc"):
        sets = parameter_units(other.extradata, clip.codec)
        prefix = length_size(other.extradata, clip.codec)
        data = b"".join((len(unit).to_bytes(prefix, "big") if prefix else b"\0\0\0\1") + unit for unit in sets)
        units[0] = replace(units[0], data=data + units[0].data)
    return replace(clip, units=(*clip.units, *units))


def _old_x264(clip: Clip) -> Clip:
    units = [replace(unit, data=re.sub(rb"x264 - core \d\d\d", b"x264 - core 120", unit.data)) for unit in clip.units]
    return replace(clip, units=tuple(units))


def _second(name: str, size: tuple[int, int]) -> Change:
    return lambda clip: _after(clip, encoded(name, size))


CHANGES: dict[str, Callable[[str], Change]] = {  # by the codec's name: a change of the packets
    "as it is": lambda name: lambda clip: clip,
    "without its first packet": lambda name: _units(lambda units: units[1:]),
    "from inside a group": lambda name: _units(lambda units: units[GOP // 2 :]),
    "swapped times": lambda name: _units(_swap_times),
    "repeated time": lambda name: _units(_repeat_time),
    "an empty packet": lambda name: _units(_with(11, b"")),
    "a packet of a byte": lambda name: _units(_with(11, b"\x88")),
    "a picture shown again": lambda name: _units(
        lambda units: [*units, Unit(b"\x88", FRAMES * _TICKS, FRAMES * _TICKS, False)]
    ),
    "all marked as keyframes": lambda name: _units(lambda units: [replace(unit, key=True) for unit in units]),
    "no keyframe marked but the first": lambda name: _units(
        lambda units: [replace(unit, key=n == 0) for n, unit in enumerate(units)]
    ),
    "a lost packet": lambda name: _units(lambda units: units[:10] + units[11:]),
    "two packets in one": lambda name: _units(
        lambda units: [*units[:10], replace(units[10], data=units[10].data + units[11].data), *units[12:]]
    ),
    "another size": lambda name: _second(name, (64, 96)),
    "the same again": lambda name: _second(name, SIZE),
}

_STREAMS = ("ts", "mpg", "h264", "hevc", "m2v")  # formats that do not keep packets as they are
_OF_PACKETS = ("an empty packet", "a packet of a byte", "a picture shown again", "two packets in one")

_NCLX = b"colr", b"nclx"
BOXES: dict[str, Callable[[bytes], bytes]] = {  # changes of an mp4 file
    "colours after a profile": lambda file: add_to_entry(
        file, mp4.box(b"colr", b"prof", bytes(20)), mp4.box(*_NCLX, struct.pack(">HHHB", 1, 1, 1, 128))
    ),
    "two colours": lambda file: add_to_entry(
        file, *(mp4.box(*_NCLX, struct.pack(">HHHB", m, m, m, r)) for m, r in ((1, 128), (9, 0)))
    ),
    "short colours": lambda file: add_to_entry(file, mp4.box(*_NCLX, struct.pack(">HH", 1, 1))),
    "full range": lambda file: add_to_entry(file, mp4.box(*_NCLX, struct.pack(">HHHB", 2, 2, 2, 128))),
    "a smaller container": lambda file: edit_entry(file, lambda entry: entry[:34] + struct.pack(">H", 42) + entry[36:]),
    "a larger container": lambda file: edit_entry(file, lambda entry: entry[:34] + struct.pack(">H", 96) + entry[36:]),
    "encrypted": lambda file: edit_entry(
        file,
        lambda entry: entry[:4] + b"encv" + entry[8:] + mp4.box(b"sinf", mp4.box(b"frma", entry[4:8])),
    ),
    "no sync table": lambda file: edit(file, TABLE, lambda box: sized(without(box, b"stss"))),
    "turned": lambda file: edit(
        file,
        (b"moov", b"trak", b"tkhd"),
        lambda box: box[:48] + struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30) + box[84:],
    ),
    "junk at the end": lambda file: file + bytes(range(256)),
    "junk in a box at the end": lambda file: file + mp4.box(b"junk", bytes(range(256))),
}


ONLY_BY_DECODING = {("vp9", "a lost packet")}
"""Damage inside pictures, which the scan sees only if it decodes them: VP9 does not number its pictures."""


@dataclass(frozen=True)
class Case:
    """One file of the corpus."""

    codec: str
    container: str
    trait: str

    @property
    def checks(self) -> tuple[str, ...]:
        """Return the checks at which the scan can see the trait."""
        return ("full",) if (self.codec, self.trait) in ONLY_BY_DECODING else ("demux", "full")

    def _source(self) -> str:
        """Return the container to remux from: an AVI has headers in its packets, Matroska outside them."""
        in_band = self.container == "avi" or self.codec in ("flv1", "wmv2")
        return "avi" if in_band or (self.container == "ts" and self.codec.startswith("mpeg4")) else "mkv"

    def __str__(self) -> str:
        return f"{self.codec}, {self.container}, {self.trait}"

    def write(self, folder: Path) -> Path | None:
        """Write the file; None if the muxer does not take it."""
        suffix = {"fragmented": "mp4"}.get(self.container, self.container)
        clip = encoded(self.codec, SIZE, self._source())
        try:
            if self.trait in BOXES:
                content = BOXES[self.trait](mux(clip, self.container))
            elif self.trait == "a still first":
                content = mux(clip, self.container, still=True)
            elif self.trait == "of an old x264":
                content = mux(_old_x264(clip), self.container)
            else:
                content = mux(CHANGES[self.trait](self.codec)(clip), self.container)
        except (av.FFmpegError, ValueError, LookupError):
            return None
        path = folder / f"{self.codec}-{self.trait}.{suffix}".replace(" ", "_").replace(":", "")
        path.write_bytes(content)
        return path


def cases() -> Iterator[Case]:
    """Yield every combination."""
    for codec, (_, _, _, containers) in CODECS.items():
        for container in containers:
            changes = [trait for trait in CHANGES if container not in _STREAMS or trait not in _OF_PACKETS]
            yield from (Case(codec, container, trait) for trait in changes)
            if container in ("mp4", "mov", "3gp"):
                yield from (Case(codec, container, trait) for trait in BOXES)
            if container == "mkv":
                yield Case(codec, container, "a still first")
            if codec.startswith("h264"):
                yield Case(codec, container, "of an old x264")
