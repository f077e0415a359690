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
from engine.console import duration
from engine.evaluation import results
from engine.evaluation.accuracy import Result
from engine.files import read_lines, replacing
from engine.runs import html, plots
from engine.runs.html import Markup, Share

MOST_NAMED = 100  # videos that could not be read

Fact = tuple[str, object, object]  # see `page.facts`


def write(folder: Path) -> Path:
    """Make the report of a run's folder; returns its path. Raises ConfigError where there is no run."""
    if not (folder / "status.json").exists():
        raise ConfigError(f"{folder}: holds no run; name a folder such as runs/NAME, which train.py writes")
    path = folder / "report.html"
    with replacing(path, "wb") as file:
        file.write(html.page(folder.resolve().name, *_parts(folder)).encode(errors="replace"))
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
    path = folder / "config.yaml"
    settings = dict(_flattened(yaml.safe_load(path.read_text()))) if path.exists() else {}
    status = _read(folder / "status.json")
    progress = _progress(status, lines, settings.get("train.epochs"))
    yield html.facts([*progress, *_totals(train, val), ("unreadable videos", len(unreadable), "")])
    if status.get("reason"):
        yield html.paragraph(f"{status['state'].capitalize()}: {status['reason']}")
    if lines:
        yield html.section("Curves", html.pictures(plots.draw(train, val)))
    if best:
        yield _evaluation("Evaluation of best.pt", best)
    if last and last.get("step") != best.get("step"):
        yield _evaluation("Newest evaluation", last)
    if unreadable:
        yield _unreadable(unreadable)
    yield html.section("Settings that depart from the defaults", _settings(settings))
    yield html.section("Commands", _commands(folder / "command.txt"))
    yield html.section("Environment", html.table([], _environment(_read(folder / "env.json"))))


def _read(path: Path) -> dict:
    """What a JSON file holds; nothing where there is none, as in a run that has just begun."""
    return json.loads(path.read_text()) if path.exists() else {}


def _progress(status: dict, lines: list[dict], epochs: int | None) -> Iterator[Fact]:
    """How far the run came, and when. A run that was killed cannot say so: its files have it as `running`."""
    running = status["state"] == "running" and lines
    yield "state", status["state"], f"at {_moment(lines[-1]['time'])}" if running else ""
    yield "step", lines[-1]["step"] if running else status["step"], Path(status.get("checkpoint") or "").name
    if lines:
        yield "epochs", f"{lines[-1]['epoch']:.4g}", epochs and f"of {epochs}"
        first, newest = (datetime.fromisoformat(line["time"]) for line in (lines[0], lines[-1]))
        yield "time", duration((newest - first).total_seconds()), f"since {_moment(lines[0]['time'])}"


def _totals(train: list[dict], val: list[dict]) -> Iterator[Fact]:
    """Accuracy, speed and memory, as far as they are known."""
    if val:
        best = max(val, key=lambda line: line["top1"])
        yield "best top-1", Share(best["top1"]), f"in epoch {best['epoch']}"
        yield "newest top-1", Share(val[-1]["top1"]), f"in epoch {val[-1]['epoch']}"
    timed = [line for line in train if line["clips_per_s"] is not None]
    if timed:
        yield "median speed", f"{median(line['clips_per_s'] for line in timed):,.0f} clips/s", ""
        yield "median wait for data", Share(median(line["data_fraction"] for line in timed)), "of the time"
    if train:
        yield "most memory of a rank", f"{max(line['memory'] for line in train) / 2**30:.1f} GiB", ""


def _evaluation(title: str, content: dict) -> Markup:
    """What an evaluation found: in all, the pairs that were confused, and class by class."""
    result, names = Result.from_json(content), content["class_names"]
    pairs = [(one.name, one.taken_for, one.times, one.videos) for one in results.most_confused(result, names)]
    classes = [
        (one.name, Share(one.top1 / one.videos), Share(one.top5 / one.videos), one.videos)
        for one in results.worst_first(result, names)
    ]
    k = min(5, len(result.top5_K))
    confused = html.folded(f"The {len(pairs)} pairs confused most often", ["class", "taken for", "times", "of"], pairs)
    return html.section(
        title,
        html.paragraph(f"Step {content['step']}: {result.summary()}"),
        html.folded(f"All {len(classes)} classes, worst first", ["class", "top-1", f"top-{k}", "videos"], classes),
        confused if pairs else html.paragraph("No class was taken for another."),
    )


def _unreadable(entries: list[dict]) -> Markup:
    shown = [(entry["split"], entry["path"], entry["reason"]) for entry in entries[:MOST_NAMED]]
    named = "All of them" if len(entries) <= MOST_NAMED else f"The first {MOST_NAMED}"
    return html.section(
        "Unreadable videos",
        html.paragraph(f"{len(entries)} videos could not be read and were left out; quarantine.jsonl names each."),
        html.folded(named, ["split", "path", "reason"], shown),
    )


def _settings(settings: dict) -> Markup:
    defaults = {key: "" if value == MISSING else _plain(value) for key, value in flat(Config()).items()}
    rows = [(key, value, defaults.get(key, "")) for key, value in settings.items()]
    return html.table(["setting", "value", "default"], (row for row in rows if row[1] != row[2]))


def _commands(path: Path) -> Markup:
    """Every start of the run: what its command names replaces the recipe's."""
    lines = path.read_text().splitlines() if path.exists() else []
    started = (line.split("  ", 1) for line in lines)
    return html.table(["started", "command"], ((_moment(time), command) for time, command in started))


def _plain(value: object) -> object:
    """As YAML gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _environment(found: dict) -> Iterator[tuple[str, object]]:
    words = {None: "none", True: "yes", False: "no"}
    return (
        (name, words.get(value, value) if isinstance(value, bool | None) else value)
        for name, value in _flattened(found)
    )


def _flattened(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Dotted names and values of nested objects."""
    rows = []
    for name, value in content.items():
        rows += _flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


def _moment(time: str) -> str:
    """A time of the run's files, as people write it."""
    return f"{datetime.fromisoformat(time):%F %T %Z}"
