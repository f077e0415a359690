"""A run's folder as one page for people: `runs/NAME/report.html`.

Everything on it is read from the folder, so it can be made at any time, also of a run that is under way, by
`python tools/report.py runs/NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import median

import yaml
from omegaconf import MISSING

from configs import Config, ConfigError, flat
from engine import curves, page, per_class
from engine.accuracy import Result
from engine.files import read_lines, replacing
from engine.page import Markup, Number
from engine.screen import duration

MOST_NAMED = 100  # videos that could not be read


def write(folder: Path) -> Path:
    """Make the report of a run's folder; returns its path. Raises ConfigError where there is no run."""
    if not (folder / "status.json").exists():
        raise ConfigError(f"{folder}: holds no run; name a folder such as runs/NAME, which train.py writes")
    path = folder / "report.html"
    with replacing(path, "wb") as file:
        file.write(page.page(folder.resolve().name, *_parts(folder)).encode(errors="replace"))
    return path


def write_if_possible(folder: Path, say: Callable[[str], None]) -> None:
    """The report of a run that is over, which nothing that goes wrong here can take back."""
    try:
        say(f"report: {write(folder)}")
    except Exception as error:
        say(f"warning: no report: {type(error).__name__}: {error}")


def _parts(folder: Path) -> Iterator[Markup]:
    lines = list(read_lines(folder / "metrics.jsonl"))
    train, val = ([line for line in lines if line["_type"] == kind] for kind in ("train", "val"))
    unreadable = list(read_lines(folder / "quarantine.jsonl"))
    best, last = (_read(folder / f"val_{which}.json") for which in ("best", "last"))
    overview = {**_progress(_read(folder / "status.json"), lines), **_totals(train, val)}
    yield page.table([], {**overview, "unreadable videos": len(unreadable)}.items())
    yield page.section("Curves", page.paragraph("Over epochs."), Markup(curves.draw(train, val)))
    if best:
        yield _evaluation("Evaluation of best.pt", best)
    if last and last.get("step") != best.get("step"):
        yield _evaluation("Newest evaluation", last)
    if unreadable:
        yield _unreadable(unreadable)
    yield page.section("Settings", *_settings(folder))
    yield page.section("Environment", page.table([], _flattened(_read(folder / "env.json"))))


def _read(path: Path) -> dict:
    """What a JSON file holds; nothing where there is none, as in a run that has just begun."""
    return json.loads(path.read_text()) if path.exists() else {}


def _progress(status: dict, lines: list[dict]) -> dict:
    """How far the run came, and when."""
    rows = {name: status[name] for name in ("state", "reason", "step", "checkpoint") if status.get(name) is not None}
    if lines:
        first, last = (datetime.fromisoformat(line["time"]) for line in (lines[0], lines[-1]))
        rows["epochs"] = Number(f"{lines[-1]['epoch']:.4g}")
        rows["metrics"] = f"from {first:%F %T} to {last:%F %T %Z}: {duration((last - first).total_seconds())}"
    return rows


def _totals(train: list[dict], val: list[dict]) -> dict:
    """Accuracy, speed and memory, as far as they are known."""
    rows = {}
    if val:
        best = max(val, key=lambda line: line["top1"])
        rows["best top-1"] = f"{_percent(best['top1'])} in epoch {best['epoch']}"
        rows["newest top-1"] = f"{_percent(val[-1]['top1'])} in epoch {val[-1]['epoch']}"
    timed = [line for line in train if line["clips_per_s"] is not None]
    if timed:
        rows["median speed"] = Number(f"{median(line['clips_per_s'] for line in timed):,.0f} clips/s")
        rows["median wait for data"] = Number(
            f"{_percent(median(line['data_fraction'] for line in timed))} of the time"
        )
    if train:
        rows["most memory of a rank"] = Number(f"{max(line['memory'] for line in train) / 2**30:.1f} GiB")
    return rows


def _evaluation(title: str, content: dict) -> Markup:
    """What an evaluation found: in all, the pairs that were confused, and class by class."""
    result, names = Result.from_json(content), content["class_names"]
    pairs = [(one.name, one.taken_for, one.times, one.videos) for one in per_class.most_confused(result, names)]
    classes = [
        (one.name, _percent(one.top1 / one.videos), _percent(one.top5 / one.videos), one.videos)
        for one in per_class.worst_first(result, names)
    ]
    k = min(5, len(result.top5_K))
    return page.section(
        title,
        page.paragraph(f"Step {content['step']}: {result.summary()}"),
        page.folded(
            f"The {len(pairs)} pairs confused most often", page.table(["class", "taken for", "times", "of"], pairs)
        ),
        page.folded(
            f"All {len(classes)} classes, worst first", page.table(["class", "top-1", f"top-{k}", "videos"], classes)
        ),
    )


def _unreadable(entries: list[dict]) -> Markup:
    shown = [(entry["split"], entry["path"], entry["reason"]) for entry in entries[:MOST_NAMED]]
    more = "" if len(entries) <= MOST_NAMED else f", of which these are the first {MOST_NAMED}"
    return page.section(
        "Unreadable videos",
        page.paragraph(f"{len(entries)} videos could not be read and were left out{more}; quarantine.jsonl has all."),
        page.table(["split", "path", "reason"], shown),
    )


def _settings(folder: Path) -> Iterator[Markup]:
    """Where the settings depart from the defaults, and the commands: what those name replaces the recipe's."""
    defaults = {key: "" if value == MISSING else _plain(value) for key, value in flat(Config()).items()}
    path = folder / "config.yaml"
    sections = yaml.safe_load(path.read_text()) if path.exists() else {}
    settings = [(key, value, defaults.get(key, "")) for key, value in _flattened(sections)]
    changed = [(key, value, default) for key, value, default in settings if value != default]
    yield page.table(["setting", "value", "default"], changed)
    commands = folder / "command.txt"
    if commands.exists():
        yield page.table(["started", "command"], (line.split("  ", 1) for line in commands.read_text().splitlines()))


def _plain(value: object) -> object:
    """As YAML gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _flattened(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Dotted names and values of nested objects."""
    rows = []
    for name, value in content.items():
        rows += _flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


def _percent(fraction: float) -> Number:
    return Number(f"{100 * fraction:.2f} %")
