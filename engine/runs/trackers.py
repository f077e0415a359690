"""Send a run's numbers and pictures to TensorBoard, Weights & Biases and MLflow (train.trackers).

metrics.jsonl has the same numbers. If a tracker fails or is not installed, the rest of its curves is lost, but the run
continues. For a resumed run, Weights & Biases continues the run under its name; TensorBoard drops the data after the
step of the resumption; MLflow starts a new run with the same name and the same tag `tsm-dali`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from PIL import Image

from engine.evaluation.accuracy import Result
from engine.evaluation.results import confusion_picture, names
from engine.output_record import record_growing
from engine.runs.condition import COMMANDS
from engine.runs.disk_faults import DiskFaults
from engine.runs.pages.strips import film_strip

logger = logging.getLogger(__name__)
PROJECT = "tsm-dali"  # project at Weights & Biases; experiment of MLflow


_numbers = itertools.count(1)  # number of TensorBoard files of this process


class Tracker(Protocol):
    """The interface of a tracker."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers by name."""

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        """Send a picture."""

    def close(self) -> None:
        """Send pending data."""


class TensorBoard:
    """Curves in the folder `tb` of the run.

    TensorBoard's writer has a thread that a full disk ends. Here, a temporary disk error is a warning, and later data
    is written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        self._folder, self._faults = folder / "tb", DiskFaults()
        self._file: Path | None = None
        with self._faults.tolerated(self._folder):
            self._start_file(step + 1)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = io.BytesIO()
        image.save(content, "png")
        encoded = Summary.Image(
            width=image.width, height=image.height, colorspace=3, encoded_image_string=content.getvalue()
        )
        self._add(step, [Summary.Value(tag=name, image=encoded)])

    def close(self) -> None:
        """Do nothing: every record is written at once."""

    def _add(self, step: int, values: list) -> None:
        with self._faults.tolerated(self._folder):
            if self._file is None:
                self._start_file(step)
            self._append(step, values)

    def _start_file(self, first_step: int) -> None:
        """Start a file. TensorBoard then drops the data of other files from `first_step` on."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        number = next(_numbers)
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}.{number}"
        self._folder.mkdir(exist_ok=True)
        version = Event(wall_time=time.time(), file_version="brain.Event:2")
        start = Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START))
        (self._folder / name).write_bytes(_records(version, start))
        record_growing(self._folder / name)
        self._file = self._folder / name

    def _append(self, step: int, values: list) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        file, self._file = self._file, None  # after an error, the next values go to another file: this one may end
        with file.open("r+b") as content:  # with a partial record
            content.seek(0, os.SEEK_END)
            content.write(_records(event))
        self._file = file


def _records(*events) -> bytes:
    """Return events in the format of a file."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    for event in events:
        RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()


class WeightsAndBiases:
    """A run at Weights & Biases, which ignores data of earlier steps than the newest."""

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        import wandb

        self._wandb, self._step = wandb, 0
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=identity(folder),
            resume="allow",
            dir=str(folder),
            config=dict(settings),
        )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._log(step, {name: self._wandb.Image(image, caption=f"step {step}")})

    def _log(self, step: int, values: dict) -> None:
        self._step = max(step, self._step)
        self._run.log(values, step=self._step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of an MLflow experiment at MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, settings: Mapping[str, object], step: int):
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=folder.name, tags={PROJECT: identity(folder)})
        mlflow.log_dict(dict(settings), "settings.json")  # the length of parameters is limited

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
        """Start, or restart at `step`; data of later steps from an earlier process is dropped."""
        for name in self._kinds:
            self._try(name, lambda name=name: self._begin(name, step))

    def numbers(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """Send the numeric values, named `kind/name`."""
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
        """Send pending data."""
        for name in tuple(self._open):
            self._try(name, lambda name=name: self._open[name].close())
        self._open.clear()

    def _begin(self, name: str, step: int) -> None:
        self._open[name] = KINDS[name](self._folder, self._settings, step)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except ModuleNotFoundError as error:
            self._open.pop(name, None)
            logger.warning(f"{name} gets no data: {error}; pip install {name}")
        except Exception as error:  # errors of network, account or disk: each library has its own exceptions
            self._open.pop(name, None)
            logger.warning(f"{name} gets no more data: {error}")


def identity(folder: Path) -> str:
    """Return an id of the run that stays the same when it is resumed, and differs for a fresh run in the same
    folder.
    """
    first = (folder / COMMANDS).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return hashlib.sha256(f"{folder.absolute()} {first}".encode()).hexdigest()[:16]
