"""A small recipe, written to a short path for error messages, and the errors that loading it raises."""

from collections.abc import Callable
from pathlib import Path

import pytest

import configs
from configs.read import SHIPPED

COMPLETE = [name for name in SHIPPED if name != "finetune"]  # recipes without settings that are chosen from the data
VARIANTS = (  # variants of recipes that are tested by default
    "pptsm_k400_dense", "tsm_hmdb51_16f", "tsm_k400_mobilenet", "tsm_k400_nl_dense", "tsm_sthv1_16f", "tsm_sthv1_r101",
    "tsm_sthv1_randaugment",
    "tsm_sthv2_16f", "tsm_sthv2_r101", "tsm_ucf101_frames_nhwc", "tsn_k400_r101", "tsn_sthv2", "tsn_sthv2_16f",
)  # fmt: skip
RECIPES = [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in COMPLETE]

RECIPE = """\
model:
  num_classes: 4
data:
  train: train.list
optim:
  lr: 1e-4
train:
  name: trial
  epochs: 10
  batch: 64
"""


def writer(folder, monkeypatch):
    """Change to `folder`; return a function that writes `recipe.yaml` there and returns its name."""
    monkeypatch.chdir(folder)

    def write(content: str | bytes) -> str:
        Path("recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return "recipe.yaml"

    return write


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], str]:
    """Return the `writer` of the test's folder; a module names the fixture to use it."""
    return writer(tmp_path, monkeypatch)


def errors(recipe: str, *overrides: str) -> list[str]:
    """Return the lines of the ConfigError that loading raises; empty if it loads."""
    try:
        configs.load(recipe, overrides)
    except configs.ConfigError as error:
        return str(error).splitlines()
    return []
