"""Compare runs on one page: results, differing settings, curves, and accuracy per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.evaluation import results
from engine.evaluation.accuracy import Result
from engine.outputs import Outputs
from engine.runs.pages import html, plots
from engine.runs.pages.html import Share, Table
from engine.runs.pages.run_files import RunFiles, read_run

MOST_CLASSES = 30  # most classes, those with the largest differences


def write(folders: Sequence[Path], outputs: Outputs | None = None) -> Path:
    """Write the comparison next to the first run's folder and return its path.

    Raises ConfigError if a folder contains no run, or another file is in the way.
    """
    runs = {_name(folder, folders): read_run(folder) for folder in folders}
    path = folders[0].resolve().parent / f"compare-{'-'.join(folder.resolve().name for folder in folders)}.html"
    page = html.render(
        "compare.html.j2",
        title=" / ".join(runs),
        totals=_totals(runs),
        settings=_settings(runs),
        legend=plots.legend(runs),
        curves=list(plots.draw_runs({name: (run.train, run.val) for name, run in runs.items()})),
        classes=_classes(runs),
        commands=Table(["run", "command"], ((name, run.starts[-1][1]) for name, run in runs.items() if run.starts)),
    )
    (outputs or Outputs()).write({path: page}, errors="replace")
    return path


def _name(folder: Path, folders: Sequence[Path]) -> str:
    """Return the name of a run's folder, or its path if several have the same name."""
    names = [other.resolve().name for other in folders]
    return str(folder) if names.count(folder.resolve().name) > 1 else folder.resolve().name


def _totals(runs: dict[str, RunFiles]) -> Table:
    """Return the facts of the runs, one column per run; facts that no run has are omitted."""
    columns = [{name: value for name, value, _ in run.facts()} for run in runs.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return Table(["", *runs], ([name, *(column.get(name, "") for column in columns)] for name in names))


def _settings(runs: dict[str, RunFiles]) -> Table:
    """Return the settings that differ between the runs by more than the name of the run's folder."""
    every = [_without_name(run.settings) for run in runs.values()]
    keys = dict.fromkeys(key for settings in every for key in settings)
    rows = ([key, *(settings.get(key, "") for settings in every)] for key in keys)
    return Table(["setting", *runs], (row for row in rows if any(value != row[1] for value in row[2:])))


def _without_name(settings: dict) -> dict:
    """Return settings with the name of the run removed, also in paths."""
    own = f"{settings.get('train.runs')}/{settings.get('train.name')}/"
    return {
        key: value.replace(own, "its folder/") if isinstance(value, str) else value
        for key, value in settings.items()
        if key != "train.name"
    }


def _classes(runs: dict[str, RunFiles]) -> Table:
    """Return top-1 per class in each run's best evaluation, by class name, the largest differences first."""
    columns = [dict(_top1(run.best)) for run in runs.values()]
    common = [name for name in columns[0] if all(name in column for column in columns)]
    rows = [(name, [column[name] for column in columns]) for name in common]
    rows.sort(key=lambda row: min(row[1]) - max(row[1]))
    return Table(["class", *runs], ([name, *map(Share, shares)] for name, shares in rows[:MOST_CLASSES]))


def _top1(content: dict) -> Iterator[tuple[str, float]]:
    """Yield the name and top-1 of each class that has videos."""
    if content:
        for one in results.worst_first(Result.from_json(content), content["class_names"]):
            yield one.name, one.top1 / one.videos
