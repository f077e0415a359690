"""Resume a run: load its state, and check for changes since the state was written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs import ConfigError
from dali_pipes import Loader
from dali_pipes.lists.rows import Rows
from engine import distributed
from engine.runs import checkpoint, checkpoint_files
from models import CheckpointError, shift_step

# These settings must not change during a run; all others may change when it is resumed.
FIXED = ("model.", "train.batch", "train.seed", "clip.repeats")
FREE = ("model.pretrained", "model.shift")  # exceptions among them: they have no effect any more, or only on speed
JUDGED = ("eval.", "data.val", "clip.mean", "clip.std", "clip.size", "clip.antialias", "clip.squash", "train.best")
"""Settings that the result of an evaluation during training depends on."""
LEARNED = ("clip.", "optim.", "data.balance", "train.mixup", "train.cutmix", "train.ema", "train.precise_bn")
"""Settings that the weights depend on, and that may change during a run."""

KINDS = {
    "model": dict,
    "optimizer": dict,
    "scaler": dict,
    "config": dict,
    "class_names": tuple | list,
    "step": int,
    "steps_per_epoch": int,
    "ranks": int,
    "videos": int,
}
"""Keys that the state of a run has in every version."""


def saved_state(folder: Path, evaluations: Sequence[dict] = ()) -> dict | None:
    """Load the newest undamaged checkpoint of a folder, or None if there is none. Damaged ones are renamed.

    The run's `evaluations` up to its step are added to the state. Raises CheckpointError if the checkpoint does not
    contain the state of a run.
    """
    checkpoint_files.remove_leftovers(folder)
    path = checkpoint_files.latest(folder)
    if path is None:
        return None
    checkpoint_files.set_aside_newer(path)
    state = checkpoint.load(path)
    entries = state if isinstance(state, dict) else {}
    wrong = [name for name, kind in KINDS.items() if not isinstance(entries.get(name), kind)]
    if wrong:
        raise CheckpointError(
            f"{path}: is not a checkpoint of a run: it has no {', '.join(wrong)}; resume from another"
        )
    return {**state, "evaluations": [numbers for numbers in evaluations if numbers["step"] <= state["step"]]}


@contextmanager
def fitting(step: int) -> Iterator[None]:
    """Turn torch's errors for tensors that do not fit into a CheckpointError."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"the checkpoint of step {step} does not fit the network: {reason}") from error


def changes(state: dict, settings: dict, loader: Loader) -> list[str]:
    """Return a line for each difference from the settings and data of `state`.

    `settings` are those of this start, `loader` reads its training list. Raises ConfigError for changes that are not
    allowed.
    """
    lines = changed_settings(state["config"], settings) + changed_list(state, loader)
    if state["step"] >= settings["train.epochs"] * state["steps_per_epoch"]:
        finished = f"this run has finished its {settings['train.epochs']} epochs"
        _refuse_without_effect(state["config"], settings, finished, longer="train.epochs")
    elif since := evaluations_without_best(state.get("evaluations", ()), settings):
        finished = f"this run has ended after {since} evaluation{'s' * (since > 1)} without a new best"
        _refuse_without_effect(state["config"], settings, finished, longer="train.patience")
    if state["ranks"] != distributed.world_size():
        change = f"{state['ranks']} -> {distributed.world_size()} ranks"
        lines.append(f"{change}: the same clips, but batch norms see others together")
    return lines


def changed_list(state: dict, loader: Loader) -> list[str]:
    """Return a line if other videos can be read than when `state` was written, and one if files have been replaced.

    Raises ConfigError for other rows. The order of an epoch depends on all rows, including unreadable ones.
    """
    now, before = loader.rows, Rows.from_state(state["rows"]) if state.get("rows") else None
    left_out = "rows" not in state and state["videos"] != loader.num_rows  # of a version with readable rows
    difference = now.difference(before) if before and now else ""
    if not difference and state["steps_per_epoch"] != len(loader):
        difference = f"{state['steps_per_epoch']} -> {len(loader)} steps per epoch"
        difference += ", maybe because an older version left unreadable videos out" if left_out else ""
    if difference:
        raise ConfigError(
            f"data.train: this run was started with other rows: {difference}; name the list that it was started with, "
            "or choose another train.name"
        )
    change = f"{state['videos']} -> {loader.num_videos} readable videos"
    if left_out:
        return [f"{change}: the rest of the epoch takes them in another order"]
    lines = [f"{change}: all others keep their places"] if state["videos"] != loader.num_videos else []
    replaced = now.other_sizes(before) if before and now else ""
    return [*lines, f"{replaced}: the run continues with other videos than at its start"] if replaced else lines


def changed_settings(before: dict, after: dict) -> list[str]:
    """Return a line for each setting that differs. Raises ConfigError for settings that must not change."""
    known = [key for key in after if key in before]  # a newer version may have more settings
    changes = {key: f"{key}: {before[key]} -> {after[key]}" for key in known if _differs(key, before, after)}
    refused = [line for key, line in changes.items() if key.startswith(FIXED) and key not in FREE]
    if refused:
        raise ConfigError(
            f"{'; '.join(refused)}: these must not change during a run; set them back, or choose another train.name"
        )
    lines = list(changes.values())
    if judged := [key for key in changes if _is_of(key, JUDGED)]:
        keys = ", ".join(judged)
        lines.append(f"{keys}: best.pt was chosen before this change, and gives way only to a higher result after it")
    return lines


def evaluations_without_best(evaluations: Sequence[dict], settings: dict) -> int:
    """Return the number of evaluations since the best one, if train.patience ends the run after as many; otherwise 0.

    Of equal accuracies, the first is the best.
    """
    values = [numbers[settings["train.best"]] for numbers in evaluations]
    since = len(values) - 1 - values.index(max(values)) if values else 0
    return since if 0 < settings["train.patience"] <= since else 0


def measured_with(settings: dict) -> dict:
    """Return the settings that the results of evaluations depend on."""
    return {key: value for key, value in settings.items() if _is_of(key, JUDGED)}


def _refuse_without_effect(before: dict, after: dict, finished: str, longer: str) -> None:
    """Raise ConfigError for settings of a run without steps left that would differ from those of its results.

    It would continue with a larger value of the setting `longer`.
    """
    keys = [key for key in after if key in before and _is_of(key, (*JUDGED, *LEARNED)) and _differs(key, before, after)]
    if keys:
        found = "; ".join(f"{key}: {before[key]} -> {after[key]}" for key in keys)
        raise ConfigError(
            f"{found}: without effect, because {finished}; evaluate it with other settings by `python eval.py "
            f"{os.path.join(after['train.runs'], after['train.name'])} {keys[0]}=...`, train on with a larger "
            f"{longer}, or train anew with --fresh"
        )


def _is_of(key: str, beginnings: tuple[str, ...]) -> bool:
    return key.startswith(beginnings) and key != "eval.batch"


def _differs(key: str, before: dict, after: dict) -> bool:
    """Return True if a setting differs in meaning, not only in text."""
    if key == "model.shift_every" and before["model.backbone"] == after["model.backbone"]:
        backbone = after["model.backbone"]
        return shift_step(backbone, before[key]) != shift_step(backbone, after[key])
    return before[key] != after[key]
