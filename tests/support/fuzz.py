"""Random edits of boxes, unit headers, times and flags of small videos, compared with a plain decode."""

from __future__ import annotations

import os
import random
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av

from dali_pipes.scan.processes import Call, Failure, call_all
from tests.support.files.corpus import CODECS, Case
from tests.support.plain import compare

SECONDS = 60.0  # after which a file counts as a hang
MEMORY = 4 << 30  # bytes of address space of a process
_BOXES = (b"stts", b"ctts", b"stss", b"elst", b"stsz", b"stsc", b"stsd", b"avcC", b"hvcC", b"colr", b"tkhd", b"mdhd")
_REACH = 48  # edited bytes of a box, or of the start of a packet
_BLOCK_HEADER = 4  # bytes before a packet in Matroska
_COUNTS = (1, 1, 1, 2, 4)  # changed bytes in a file
EDITS = ("anywhere", "headers")


def write_sources(folder: Path) -> list[str]:
    """Write one small file of each codec and container; return their paths."""
    found = (
        Case(codec, container, "as it is").write(folder) for codec, (*_, containers) in CODECS.items()
        for container in containers
    )  # fmt: skip
    paths = []
    for path in filter(None, found):
        path = path.rename(folder / f"{len(paths)}-{path.name}")
        paths.append(str(path))
    return paths


def edited(content: bytes, packets: list[int], rng: random.Random) -> bytes:
    """Change one to four bytes: mostly in boxes and at the starts of packets, whose places are `packets`."""
    data, boxes = bytearray(content), _boxes(content)
    for _ in range(rng.choice(_COUNTS)):
        kind = rng.random()
        if boxes and kind < 0.4:
            at = rng.choice(boxes) + rng.randrange(_REACH)
        elif packets and kind < 0.9:
            at = rng.choice(packets) + min(rng.randrange(_REACH), rng.randrange(_REACH))
        else:
            at = rng.randrange(len(data))
        _change(data, at, rng)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.02 else data)


def with_other_headers(content: bytes, headers: list[range], rng: random.Random) -> bytes:
    """Change one to four bytes of boxes and of the headers of units, which a scan can see without decoding."""
    data, boxes = bytearray(content), _boxes(content)
    for _ in range(rng.choice(_COUNTS)):
        in_box = boxes and (rng.random() < 0.5 or not headers)
        at = rng.choice(boxes) + rng.randrange(_REACH) if in_box else rng.choice(rng.choice(headers))
        _change(data, at, rng)
    return bytes(data)


def _boxes(content: bytes) -> list[int]:
    """Return where the content of boxes starts."""
    return [at + 4 for name in _BOXES if (at := content.find(name)) >= 0]


def _change(data: bytearray, at: int, rng: random.Random) -> None:
    if at < len(data):
        data[at] = rng.choice((data[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))


def unit_headers(path: str) -> list[range]:
    """Return where the headers of units are: a length or start code and a byte; in VP8 three bytes.

    In Matroska the header of a block comes first.
    """
    before = _BLOCK_HEADER if path.endswith((".mkv", ".webm")) else 0
    length = before + (3 if "-vp8-" in os.path.basename(path) else 5)
    return [range(start, start + length) for start in packet_places(path)]


def packet_places(path: str) -> list[int]:
    """Return where the packets of a file start, if the container says so."""
    with av.open(path) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size and packet.pos is not None]


def run_one(seed: int, source: str, check: str, edits: str = "anywhere") -> tuple[str, str]:
    """Edit a file by a seed and compare it; return outcome and detail."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    content, rng = Path(source).read_bytes(), random.Random(seed)
    if edits == "headers":
        content = with_other_headers(content, unit_headers(source), rng)
    else:
        content = edited(content, packet_places(source), rng)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(source))
        Path(path).write_bytes(content)
        return tuple(compare(path, check, draws=4, most=8))


def fuzz(
    sources: list[str], seeds: range, check: str, processes: int, edits: str = "anywhere"
) -> Iterator[tuple[int, str, str, str]]:
    """Yield (seed, source, outcome, detail) of each edited file; a process that dies is a `crash` or a `hang`."""
    calls = {seed: Call(seed, (seed, sources[seed % len(sources)], check, edits), SECONDS) for seed in seeds}
    for seed, answer in call_all(run_one, calls.values(), processes):
        if isinstance(answer, Failure):
            answer = "hang" if "hung" in answer.reason else "crash", answer.reason
        yield seed, calls[seed].arguments[1], *answer


def summary(outcomes: Counter) -> str:
    """Describe the counts in one line."""
    total = sum(outcomes.values())
    return f"{total} edited files: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
