"""Send a run's numbers and pictures to TensorBoard, Weights & Biases and MLflow, as train.trackers asks.

metrics.jsonl has the same numbers. A tracker that fails, or is not installed, costs the rest of its curves, not the
run. Weights & Biases continues a resumed run under its old name; TensorBoard forgets what comes after the step that a
run resumes at; MLflow begins a new run with the same name and the same tag `tsm-dali`.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from PIL import Image

from engine.evaluation.accuracy import Result
from engine.evaluation.results import confusion_picture, names
from engine.runs.disk_faults import DiskFaults
from engine.runs.strips import film_strip
from engine.runs.tensorboard import TensorBoardLog

logger = logging.getLogger(__name__)
PROJECT = "tsm-dali"  # at Weights & Biases; the experiment of MLflow


class Tracker(Protocol):
    """A place that numbers and pictures are sent to."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers by name."""

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        """Send a picture."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Curves in the folder `tb` of the run. A disk that fails for a while costs a warning, and not the rest."""

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        self._log = TensorBoardLog(folder / "tb", DiskFaults())
        self._log.rewind(step)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._log.scalars(step, values)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._log.picture(step, name, image)

    def close(self) -> None:
        """Do nothing: every record is written when it is given."""


class WeightsAndBiases:
    """A run at Weights & Biases."""

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=identity(folder),
            resume="allow",
            dir=str(folder),
            config=dict(settings),
        )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of an MLflow experiment; MLFLOW_TRACKING_URI says where."""

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=folder.name, tags={PROJECT: identity(folder)})
        mlflow.log_dict(dict(settings), "settings.json")  # parameters may be no longer than a line

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._mlflow.log_image(image, f"{name}_{step}.png")

    def close(self) -> None:
        self._mlflow.end_run()


KINDS: dict[str, Callable[[Path, Mapping[str, object], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Trackers:
    """The trackers of a run. Before `open` and after `close` nothing is sent."""

    def __init__(self, kinds: Iterable[str], folder: Path, settings: Mapping[str, object]):
        self._kinds, self._folder, self._settings = tuple(kinds), folder, settings
        self._open: dict[str, Tracker] = {}

    def open(self, step: int) -> None:
        """Begin, or begin again at `step`; what an earlier process sent of later steps counts no more."""
        for name in self._kinds:
            self._try(name, lambda name=name: self._begin(name, step))

    def numbers(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Send the numbers among these, under `kind/name`."""
        known = {f"{kind}/{key}": value for key, value in values.items() if isinstance(value, int | float)}
        for name in tuple(self._open):
            self._try(name, lambda name=name: self._open[name].numbers(step, known))

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        """Send a picture."""
        for tracker in tuple(self._open):
            self._try(tracker, lambda tracker=tracker: self._open[tracker].picture(step, name, image))

    def evaluation(self, content: Mapping) -> None:
        """Send the confusion matrix and the film strips of examples; `content` is that of val_best.json."""
        if not self._open or not content:
            return
        result = Result.from_json(dict(content))
        matrix = confusion_picture(result.confusion_KK.numpy(), names(result, content["class_names"]))
        self.picture(content["step"], "confusion", Image.open(io.BytesIO(matrix)).convert("RGB"))
        for number, example in enumerate(content.get("examples", [])):
            if strip := film_strip(example["path"], example.get("start", 0.0), example.get("end")):
                self.picture(content["step"], f"{example['kind']}/{number}", strip)

    def close(self) -> None:
        """Send what is left."""
        for name in tuple(self._open):
            self._try(name, lambda name=name: self._open[name].close())
        self._open.clear()

    def _begin(self, name: str, step: int) -> None:
        self._open[name] = KINDS[name](self._folder, self._settings, step)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # of a network, an account, a disk: each library has its own
            self._open.pop(name, None)
            logger.warning(f"nothing more for {name}: {error}")


def identity(folder: Path) -> str:
    """Return a name of the run that its resumptions share and a fresh run in the same folder does not."""
    first = (folder / "command.txt").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return hashlib.sha256(f"{folder.absolute()} {first}".encode()).hexdigest()[:16]
