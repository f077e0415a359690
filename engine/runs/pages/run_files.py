"""Read the files of a run's folder for its pages, and extract the main facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from statistics import median

import yaml

from configs.cli import refuse_missing_run
from configs.progress import format_rate
from engine.console import duration
from engine.files import read_json, read_lines
from engine.runs.condition import read_starts
from engine.runs.pages.html import Share

LARGEST_RESULT = 2**28  # bytes of val_best.json: enough for the confusion matrix of 10,000 classes

Fact = tuple[str, object, object]  # name, value, note


@dataclass(frozen=True)
class RunFiles:
    """The content of the files of a run's folder."""

    folder: Path
    train: list[dict]  # lines of metrics.jsonl
    val: list[dict]
    unreadable: list[dict]
    settings: dict[str, object]  # of the recipe, by dotted key
    status: dict
    environment: dict
    best: dict  # val_best.json
    last: dict  # val_last.json
    inputs: dict  # inputs.json
    starts: list[tuple[str, str]]  # (time, command) of each start

    @property
    def lines(self) -> list[dict]:
        """Return the lines of metrics.jsonl, in the order of their steps."""
        return sorted([*self.train, *self.val], key=itemgetter("step"))

    def facts(self) -> list[Fact]:
        """Return the main facts as (name, value, note)."""
        return [
            *_progress(self.status, self.lines, self.settings.get("train.epochs")),
            *_time(self.starts, self.lines),
            *_totals(self.train, self.val, str(self.settings.get("train.best", "top1"))),
            *_hardware(self.environment),
            *_decoders(self.inputs.get("decoders", {})),
            ("unreadable videos", len(self.unreadable), ""),
        ]


def read_run(folder: Path) -> RunFiles:
    """Read the files of a run's folder. Raises ConfigError if the folder contains no run."""
    refuse_missing_run(folder)
    lines = list(read_lines(folder / "metrics.jsonl"))
    path = folder / "config.yaml"
    return RunFiles(
        folder=folder,
        train=[line for line in lines if line["_type"] == "train"],
        val=[line for line in lines if line["_type"] == "val"],
        unreadable=list(read_lines(folder / "quarantine.jsonl")),
        settings=dict(flattened(yaml.safe_load(path.read_text()))) if path.exists() else {},
        status=_read(folder / "status.json"),
        environment=_read(folder / "env.json"),
        best=_read(folder / "val_best.json"),
        last=_read(folder / "val_last.json"),
        inputs=_read(folder / "inputs.json"),
        starts=read_starts(folder),
    )


def _read(path: Path) -> dict:
    """Read a JSON file; return an empty dictionary if it does not exist yet."""
    return read_json(path, most=LARGEST_RESULT) if path.exists() else {}


def flattened(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Return (dotted name, value) of nested objects."""
    rows = []
    for name, value in content.items():
        rows += flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


def _progress(status: dict, lines: list[dict], epochs: int | None) -> Iterator[Fact]:
    """Yield state, step and epochs. The files of a killed run still say `running`."""
    running = status["state"] == "running" and lines
    yield "state", status["state"], f"at {moment(lines[-1]['time'])}" if running else ""
    yield "step", lines[-1]["step"] if running else status["step"], Path(status.get("checkpoint") or "").name
    if lines:
        yield "epochs", f"{lines[-1]['epoch']:.4g}", epochs and f"of {epochs}"


def _time(starts: list[tuple[str, str]], lines: list[dict]) -> Iterator[Fact]:
    """Yield the total time of all starts, each up to its last line."""
    times = sorted(datetime.fromisoformat(line["time"]) for line in lines)
    if not times:
        return
    begun = sorted(datetime.fromisoformat(time) for time, _ in starts) or times[:1]
    ended = [
        max((time for time in times if begin <= time and (end is None or time < end)), default=begin)
        for begin, end in zip(begun, [*begun[1:], None], strict=True)
    ]
    spent = sum((end - begin).total_seconds() for begin, end in zip(begun, ended, strict=True))
    several = f", {len(begun)} starts" if len(begun) > 1 else ""
    yield "time", duration(spent), f"since {moment(begun[0].isoformat())}{several}"


def _totals(train: list[dict], val: list[dict], kind: str) -> Iterator[Fact]:
    """Yield accuracy, speed and memory, if recorded; `kind` is the accuracy that chose best.pt."""
    if val:
        best = max(val, key=itemgetter(kind))
        if kind == "mean_class":
            yield "best mean class accuracy", Share(best[kind]), f"in epoch {best['epoch']}"
        name = "best top-1" if kind == "top1" else "top-1 of that evaluation"
        yield name, Share(best["top1"]), f"in epoch {best['epoch']}"
        yield "newest top-1", Share(val[-1]["top1"]), f"in epoch {val[-1]['epoch']}"
    timed = [line for line in train if line["clips_per_s"] is not None]
    if timed:
        yield "median speed", f"{format_rate(median(line['clips_per_s'] for line in timed))} clips/s", ""
        yield "median wait for data", Share(median(line["data_fraction"] for line in timed)), "of time"
    if train:
        yield "peak memory (worst rank)", f"{max(line['memory'] for line in train) / 2**30:.1f} GiB", ""


def _hardware(environment: dict) -> Iterator[Fact]:
    """Yield the precision and the device of the run."""
    if used := environment.get("used"):
        device = environment.get("gpu") if used["device"] == "cuda" else environment.get("cpu")
        yield "precision", used["precision"], "channels last" if used["channels_last"] else ""
        yield "device", used["device"], device or ""


def _decoders(counts: dict[str, int]) -> Iterator[Fact]:
    """Yield the most frequent decoder of training videos, and the others."""
    if counts:
        first, *others = sorted(counts, key=lambda name: -counts[name])
        yield (
            "decoder",
            first,
            ", ".join([f"{counts[first]:,} videos", *(f"{name} {counts[name]:,}" for name in others)]),
        )


def moment(time: str) -> str:
    """Format a timestamp of the run's files."""
    return f"{datetime.fromisoformat(time):%F %T %Z}"
