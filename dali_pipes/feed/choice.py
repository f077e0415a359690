"""Choose a decoder for each video, once per loader, and the CPU's share if two decoders share the videos."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.feed.decoders import DALI_CPU, JPEG, NVDEC, PYAV, Decoder, GraphForm, thread_decoder
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.bitstream.cropping import uncropped
from dali_pipes.video.colours import correction
from dali_pipes.video.packet_table import Video

if TYPE_CHECKING:
    import torch  # not imported at run time: tools that prepare data choose decoders, too, and must start fast

_DECODERS: tuple[Decoder, ...] = (PYAV, JPEG, NVDEC, DALI_CPU)
logger = logging.getLogger(__name__)


class Choice:
    """The decoder of each row of a catalogue.

    `in_graph` is the graph's decoder, or None if no video uses it. `note` is a line with the number of videos of each
    decoder and the reasons against the fastest one; empty if there is no choice. Raises DataError if this machine lacks
    the decoder that data.decoder asks for.
    """

    def __init__(self, catalog: Catalog, data: Data, device: torch.device):
        self.catalog = catalog
        wanted, missing = choose_graph_decoder(data.decoder, device)
        self._decoder_N = np.zeros(len(catalog), np.uint8)  # index in _DECODERS
        self.reasons: Counter[str] = Counter()  # number of videos for each reason against `wanted`
        rows, kind_U = catalog.kinds()
        counts = np.bincount(kind_U)
        taken = [self._choose(wanted, row, count) for row, count in zip(rows.tolist(), counts.tolist(), strict=True)]
        self._decoder_N[catalog.usable] = np.array(taken, np.uint8)[kind_U]
        self.in_graph = wanted if wanted and _DECODERS.index(wanted) in taken else None
        self.graph_form = self._graph_form(rows)
        self.share = Share(data.cpu_share) if data.decoder == "hybrid" else None
        self.note = f"{catalog.source}: decoded on the CPU: {missing}" if missing else self._summary(wanted)

    def _choose(self, wanted: Decoder | None, row: int, count: int) -> int:
        """Choose for the `count` videos in the format of this row's video; return an index in _DECODERS."""
        video = self.catalog.video(row)
        if wanted and (refusal := wanted.refusal(video)):
            self.reasons[refusal.kind] += count
        decoder = wanted if wanted and not refusal else thread_decoder(video)
        return _DECODERS.index(decoder)

    def _graph_form(self, rows: np.ndarray) -> GraphForm:
        """Find the parts that the graph needs, from one row for each format of video."""
        turned = bool(self.catalog.orientation_N[self.catalog.usable].any())
        if not self.in_graph:
            return GraphForm(turned=turned)
        for_graph = [row for row in rows.tolist() if self.of(row) is self.in_graph]
        wrong = any(correction(self.catalog.video(row).description) is not None for row in for_graph)
        return GraphForm(self.in_graph.in_graph, turned, wrong)

    def _summary(self, wanted: Decoder | None) -> str:
        """Describe the number of videos of each decoder, and the reasons why some do not use `wanted`."""
        if not wanted:
            return ""
        return f"{self.catalog.source}: {_counted(self.catalog, wanted, self.reasons)}"

    def counts(self) -> dict[str, int]:
        """Return the number of readable videos of each decoder, before the CPU's share is applied."""
        taken = np.bincount(self._decoder_N[self.catalog.usable], minlength=len(_DECODERS)).tolist()
        return {decoder.name: count for decoder, count in zip(_DECODERS, taken, strict=True) if count}

    def of(self, row: int) -> Decoder:
        """Return the decoder of a row's video, before the CPU's share is applied."""
        return _DECODERS[self._decoder_N[row]]

    def of_batch(self, number: int, row_B: np.ndarray) -> list[Decoder]:
        """Return the decoder of each video of a batch; `number` is the number of videos before the batch since the run
        began.
        """
        decoders = [self.of(row) for row in row_B.tolist()]
        if self.share is None:
            return decoders
        return [
            thread_decoder(self.catalog.video(row))
            if row >= 0 and decoder.in_graph and self.share.is_for_threads(number + place)
            else decoder
            for place, (row, decoder) in enumerate(zip(row_B.tolist(), decoders, strict=True))
        ]

    def give_to_threads(self, row: int, reason: str) -> Decoder:
        """Decode a video with threads from now on, because DALI's decoder failed on it."""
        path = self.catalog.path(row)
        logger.warning(f"{path}: {self.of(row).name} cannot decode it ({reason}); the CPU tries")
        decoder = thread_decoder(self.catalog.video(row))
        self._decoder_N[row] = _DECODERS.index(decoder)
        return decoder


def _counted(catalog: Catalog, decoder: Decoder, reasons: Counter[str]) -> str:
    """Describe the number of videos that a decoder gets, and for each reason the number that it does not get."""
    others = reasons.total()
    line = f"{decoder.name} {len(catalog.usable) - others:,}"
    if others:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in reasons.most_common())
        line += f" · cpu {others:,}: {listed}"
    return line


def on_a_gpu(catalog: Catalog) -> str:
    """Describe the decoders that a catalogue's videos would use on a GPU, and the reasons against NVDEC. Needs no
    GPU.
    """
    rows, kind_U = catalog.kinds()
    reasons: Counter[str] = Counter()
    for row, count in zip(rows.tolist(), np.bincount(kind_U).tolist(), strict=True):
        if refusal := NVDEC.refusal(catalog.video(row)):
            reasons[refusal.kind] += count
    return _counted(catalog, NVDEC, reasons)


def nvdec_decoders(catalog: Catalog) -> tuple[int, int]:
    """Return the number of distinct coded sizes and of distinct display sizes among the catalogue's videos for NVDEC.

    Each size needs its own decoder, and DALI keeps at most 100. Cuts decode with padding, so the first number counts.
    """
    videos = [catalog.video(row) for row in catalog.kinds()[0].tolist()]
    videos = [video for video in videos if not NVDEC.refusal(video)]
    coded = {(video.codec, *_coded_size(video)) for video in videos}
    return len(coded), len({(video.codec, video.width, video.height) for video in videos})


def _coded_size(video: Video) -> tuple[int, int]:
    changed = uncropped(video.codec, video.description)
    return (changed.width, changed.height) if changed else (video.width, video.height)


def choose_graph_decoder(asked: str, device: torch.device) -> tuple[Decoder | None, str]:
    """Return DALI's decoder, for all videos that it decodes correctly, or None with the reason if one was expected.

    Raises DataError if this machine lacks the decoder `asked` (data.decoder).
    """
    on_gpu = device.type == "cuda"
    if asked == "nvdec" and not on_gpu:
        raise DataError("data.decoder", "nvdec decodes on a GPU and there is none; use pyav, or auto")
    if asked in ("auto", "nvdec", "hybrid") and on_gpu:
        from dali_pipes.feed.dali_errors import why_nvdec_fails  # imports DALI, which may not be installed

        if not (reason := why_nvdec_fails(device)):
            return NVDEC, ""
        if asked != "auto":
            raise DataError("data.decoder", f"{asked}: {reason}; or use pyav, or auto")
        return None, reason
    return (DALI_CPU if asked in ("dali_cpu", "hybrid") else None), ""


class Share:
    """The fraction of the videos that threads decode although the graph could.

    A fixed fraction selects the same videos in every run. `auto` starts at START and moves work away from the slower
    side.
    """

    START = 0.25
    STEP = 0.02  # change of one adjustment
    BATCHES = 4  # batches between two adjustments

    def __init__(self, part: float | str):
        self.fixed = part != "auto"
        self.part = self.START if part == "auto" else float(part)
        self._waits: list[tuple[float, float]] = []

    def is_for_threads(self, number: int) -> bool:
        """Return True if threads decode the video with this number: the fraction of all videos so far reaches the next
        integer.
        """
        return int((number + 1) * self.part) > int(number * self.part)

    def observe(self, for_threads: float, for_graph: float) -> None:
        """Record the seconds that a batch waited for each side, and adjust every few batches. Nothing changes if
        training is slower than both sides.
        """
        if self.fixed:
            return
        self._waits.append((for_threads, for_graph))
        if len(self._waits) == self.BATCHES:
            threads, graph = np.sum(self._waits, axis=0).tolist()
            self._waits.clear()
            self.part = float(np.clip(self.part + self.STEP * np.sign(graph - threads), 0, 1))
