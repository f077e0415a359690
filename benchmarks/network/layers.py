"""Question 1: which convolutions should the shift be folded into?

Each shifting 1x1 convolution is timed alone, forward and backward: without a shift, with a copy before it, and folded.
The folded form is checked for correct results first. The rows for this device are written to fold_table.jsonl in the
folder of the records, together with the rows of models/shift/fold_table.jsonl.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path

import torch

from benchmarks.harness.measure import summary
from benchmarks.harness.session import Probe
from benchmarks.network import tiles
from benchmarks.network.cases import PASSES, WAYS, Layer, Tiles, Work, check_results, example, layers, work
from benchmarks.network.scale import Precision, Scale
from engine.runtime import HALF
from models.shift import measured


def run_section(probe: Probe) -> None:
    scale, counts = probe.scale, layers(probe.scale)
    tuned = tiles.tuned(probe, counts) if scale.device == "cuda" else dict.fromkeys(counts, Tiles())
    wanted = [(precision, layer) for precision in scale.precisions for layer in tuned]
    groups = [
        {
            _name(precision, layer, way, name): (measure, scale, layer, precision, tuned[layer], way, name)
            for way in WAYS
            for name in PASSES
        }
        for precision, layer in wanted
    ]
    found = probe.run_alternately(groups, partial(summary, name="ms"))
    rows = []
    for precision, layer in wanted:
        times = {way: [found.get(_name(precision, layer, way, name)) for name in PASSES] for way in WAYS}
        if all(map(all, times.values())):
            rows.append(_row(scale, precision, layer, tuned[layer], times))
            probe.recorder.add(f"layers/{precision}/{layer.name}", count=counts[layer], **rows[-1])
    _write_table(rows, probe.folder / measured.FILE.name)


def _name(precision: Precision, layer: Layer, way: str, name: str) -> str:
    return f"layers/{precision}/{layer.name}/{way}/{name}"


def measure(scale: Scale, layer: Layer, precision: Precision, tuned: Tiles, way: str, name: str) -> dict:
    """Return the milliseconds of one pass of one implementation, on a batch that is not in the cache."""
    return {"ms": scale.clock.time(_ready(scale, layer, precision, tuned)[way, name], scale.repeats, cold=True)}


@lru_cache(maxsize=1)
def _ready(scale: Scale, layer: Layer, precision: Precision, tuned: Tiles) -> dict[tuple[str, str], Work]:
    """Prepare all implementations of a layer once: checked and warmed up."""
    torch.backends.cudnn.benchmark = True  # as training has it
    check_results(scale, layer, precision, tuned)
    ready = work(example(scale, layer, precision, scale.clips), tuned)
    for call in ready.values():
        scale.clock.time(call, 3)
    return ready


def _row(scale: Scale, precision: Precision, layer: Layer, tuned: Tiles, times: dict[str, list[dict]]) -> dict:
    """Return a layer's row of the table."""
    row = {
        "device": measured.device_name(scale.clock.device),
        "capability": measured.capability(scale.clock.device).removeprefix("capability "),
        "dtype": str(HALF.get(precision, "float32")).removeprefix("torch."),
        "channels": layer.channels,
        "filters": layer.filters,
    }
    sums = {f"{way}_ms": sum(found["ms"] for found in times[way]) for way in WAYS}
    return row | sums | ({"tiles": tuned._asdict()} if tuned.forward else {})


def _write_table(rows: list[dict], path: Path) -> None:
    """Write the shipped table with `rows` in place of older rows of the same layers, each row once."""
    known = {measured.key(row): row for row in [*measured.rows().values(), *rows]}
    path.write_text("".join(json.dumps(row) + "\n" for row in known.values()))
