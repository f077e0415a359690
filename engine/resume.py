"""Going on with a run: from which of its checkpoints, and which settings may have changed since it was started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from configs import ConfigError
from engine.runs import checkpoint
from models import shift_step

# A run keeps these from its first start to its end; all other settings may change when it is resumed.
FIXED = ("model.", "train.batch", "train.seed")
FREE = ("model.pretrained", "model.shift")  # of those: they decide nothing any more, or only how fast it goes


def saved_state(folder: Path, say: Callable[[str], None]) -> dict | None:
    """What the newest undamaged checkpoint of a folder holds; None where there is none. Damaged ones are set aside."""
    path = checkpoint.latest(folder, say)
    if path is None:
        return None
    checkpoint.set_aside_newer(path)
    return checkpoint.load(path)


def changed_settings(before: dict, after: dict) -> list[str]:
    """A line for each setting that differs. Raises ConfigError where a run must keep what it was started with."""
    known = [key for key in after if key in before]  # a newer version may have more settings
    changes = {key: f"{key}: {before[key]} -> {after[key]}" for key in known if _differs(key, before, after)}
    refused = [line for key, line in changes.items() if key.startswith(FIXED) and key not in FREE]
    if refused:
        raise ConfigError(f"{'; '.join(refused)}: a run keeps these; set them back, or choose another train.name")
    return list(changes.values())


def _differs(key: str, before: dict, after: dict) -> bool:
    """Whether a setting means something else than it did."""
    if key == "model.shift_every" and before["model.backbone"] == after["model.backbone"]:
        backbone = after["model.backbone"]
        return shift_step(backbone, before[key]) != shift_step(backbone, after[key])
    return before[key] != after[key]
