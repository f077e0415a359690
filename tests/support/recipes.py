"""A small recipe, written where errors name it in one word, and the errors that loading it raises."""

from pathlib import Path

import configs

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
    """A function that writes `recipe.yaml` into `folder`, from now on the current one, and returns its name."""
    monkeypatch.chdir(folder)

    def write(content: str | bytes) -> str:
        Path("recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return "recipe.yaml"

    return write


def errors(recipe: str, *overrides: str) -> list[str]:
    """The lines of the ConfigError that loading raises; none where it loads."""
    try:
        configs.load(recipe, overrides)
    except configs.ConfigError as error:
        return str(error).splitlines()
    return []
