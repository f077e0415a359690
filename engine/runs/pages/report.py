"""Write the report of a run as one page, `runs/NAME/report.html`, from the files of its folder.

`python tools/report.py runs/NAME` writes it at any time, also during the run.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import MISSING

from configs import Config, flat
from dali_pipes.lists.formats.annotation import WHOLE, Span
from engine.evaluation import results
from engine.evaluation.accuracy import Result
from engine.evaluation.examples import HARD, MISTAKE, RIGHT, Example
from engine.outputs import Outputs
from engine.runs.pages import dataset, html, plots
from engine.runs.pages.html import Share, Table
from engine.runs.pages.run_files import RunFiles, flattened, moment, read_run
from engine.runs.pages.strips import data_uri, film_strip

logger = logging.getLogger(__name__)
MOST_NAMED = 100  # most unreadable videos in the report
MOST_IN_MATRIX = 30  # most classes of a whole confusion matrix
STRIPS = {MISTAKE: "Most confident mistakes", HARD: "Hardest videos", RIGHT: "Most confident right predictions"}


def write(folder: Path, outputs: Outputs | None = None) -> Path:
    """Write the report of a run's folder and return its path.

    Raises ConfigError if the folder contains no run, or another report.html is in the way.
    """
    path = folder / "report.html"
    page = html.render("report.html.j2", title=folder.resolve().name, **_content(read_run(folder)))
    (outputs or Outputs()).write({path: page}, errors="replace")
    return path


def write_if_possible(folder: Path) -> None:
    """Write the report of a finished run; errors are only warnings."""
    try:
        logger.info(f"report: {write(folder)}")
    except Exception as error:
        logger.warning(f"no report: {type(error).__name__}: {error}")


def _content(run: RunFiles) -> dict:
    """Return the values of report.html.j2."""
    recipe, status = run.folder / "config.yaml", run.status
    shown = run.unreadable[:MOST_NAMED]
    return {
        "progress": run.facts(),
        "reason": f"{status['state'].capitalize()}: {status['reason']}" if status.get("reason") else "",
        "curves": list(plots.draw(run.train, run.val)),
        "evaluations": list(_evaluations(run)),
        "unreadable": Table(
            ["split", "path", "reason"], ((entry["split"], entry["path"], entry["reason"]) for entry in shown)
        ),
        "unreadable_videos": len(run.unreadable),
        "settings": _settings(run.settings),
        "commands": Table(["started", "command"], ((moment(time), command) for time, command in run.starts)),
        "next_commands": _next_commands(run.folder),
        "times": _times(run.train),
        "inputs": run.inputs.get("clips", []),
        "datasets": dataset.tables(recipe) if recipe.exists() else [],
        "environment": Table([], _environment(run.environment)),
    }


def _times(train: list[dict]) -> Table:
    """Return a table of how training spent its time, if recorded."""
    timed = [line for line in train if line["clips_per_s"]]
    if not timed:
        return Table([], [])
    waiting = sum(line["data_fraction"] for line in timed) / len(timed)
    return Table(
        ["part", "share of a step"],
        [("waiting for data", Share(waiting)), ("network and optimizer", Share(1 - waiting))],
    )


def _next_commands(folder: Path) -> Table:
    """Return the commands that use this run."""
    run = shlex.quote(str(folder))
    rows = [
        ("resume", f"python train.py --resume {run}"),
        ("evaluate", f"python eval.py {run} --per-class"),
        ("predict", f"python tools/predict.py VIDEO --weights {run}"),
        ("export", f"python tools/export.py {run} --format onnx"),
    ]
    return Table([], rows)


def _evaluations(run: RunFiles) -> Iterator[dict]:
    """Yield the evaluation of best.pt, and the newest one if it differs."""
    best, last = run.best, run.last
    if best:
        yield _evaluation("Evaluation of best.pt", best, run.settings)
    if last and last.get("step") != best.get("step"):
        yield _evaluation("Newest evaluation", last, run.settings)


def _measured_with(content: dict, settings: dict) -> str:
    """Name the settings of an evaluation that differ from those of the run, which was resumed with others since."""
    measured = content.get("settings", {})
    other = [f"{key}={value}" for key, value in measured.items() if key in settings and settings[key] != value]
    return f"; measured with {', '.join(other)}" if other else ""


def _evaluation(title: str, content: dict, settings: dict) -> dict:
    """Return totals, per-class results, and the confusion matrix or, for many classes, the confused pairs."""
    result, names = Result.from_json(content), content["class_names"]
    confusion_KK = result.confusion_KK.tolist()
    confused = results.most_confused(result, names)
    whole = len(confusion_KK) <= MOST_IN_MATRIX
    return {
        "title": title,
        "strips": list(_strips(content.get("examples", []), names)),
        "matrix": _matrix(confusion_KK, results.names(result, names)) if whole and confused else None,
        "summary": f"Step {content['step']}: {result.summary()}{_measured_with(content, settings)}",
        "classes": Table(
            ["class", *(name.replace("top", "top-") for name in results.measures(result)), "videos"],
            ((one.name, *map(Share, one.shares), one.videos) for one in results.worst_first(result, names)),
        ),
        "any_confused": bool(confused),
        "confused": Table(
            ["class", "predicted as", "times", "of"],
            ((one.name, one.predicted, one.times, one.videos) for one in confused if not whole),
        ),
    }


def _matrix(confusion_KK: list[list[int]], names: list[str]) -> list[tuple[str, list[tuple[int, Share]]]]:
    """Return the rows of the confusion matrix: the class, and (count, share) for each predicted class."""
    return [
        (name, [(count, Share(count / max(sum(count_K), 1))) for count in count_K])
        for name, count_K in zip(names, confusion_KK, strict=True)
    ]


def _strips(found: list[dict], names: Sequence[str]) -> Iterator[tuple[str, list[dict]]]:
    """Yield (title, film strips) for each kind of examples; an unreadable video has no picture."""

    def name(label: int) -> str:
        return names[label] if label < len(names) else str(label)

    for kind, title in STRIPS.items():
        of_kind = [Example(**example) for example in found if example["kind"] == kind]
        shown = [
            {
                "picture": strip and data_uri(strip),
                "path": example.path + _part(example),
                "label": name(example.label),
                "predicted": name(example.predicted),
                "right": example.label == example.predicted,
                "confidence": f"{100 * example.confidence:.1f} %",
                "truth": f"{100 * example.truth:.1f} %",
            }
            for example, strip in (
                (example, film_strip(example.path, example.start, example.end)) for example in of_kind
            )
        ]
        if shown:
            yield title, shown


def _part(example: Example) -> str:
    """Describe the part of its video that an example shows; empty for a whole video."""
    span = Span(example.start, math.inf if example.end is None else example.end)
    return "" if span == WHOLE else f", {span}"


def _settings(settings: dict) -> Table:
    """Return the settings that differ from the defaults."""
    defaults = {key: "" if value == MISSING else _plain(value) for key, value in flat(Config()).items()}
    rows = [(key, value, defaults.get(key, "")) for key, value in settings.items()]
    return Table(["setting", "value", "default"], (row for row in rows if row[1] != row[2]))


def _plain(value: object) -> object:
    """Return a setting as YAML would load it."""
    return list(value) if isinstance(value, tuple) else value


def _environment(found: dict) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of env.json."""
    words = {None: "none", True: "yes", False: "no"}
    return (
        (name, words.get(value, value) if isinstance(value, bool | None) else value) for name, value in flattened(found)
    )
