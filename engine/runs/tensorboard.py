"""Scalars and pictures of a run in files that TensorBoard reads. TensorBoard's own writer has a thread, which a full disk ends."""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from engine.outputs import record_growing
from engine.runs.disk_faults import DiskFaults


class TensorBoardLog:
    """Scalars in a folder; metrics.jsonl has them, too.

    What a disk does not take, or a machine without TensorBoard, costs a warning.
    """

    def __init__(self, folder: Path, faults: DiskFaults):
        self._folder, self._faults = folder, faults
        self._file: Path | None = None
        self._begun, self._files = False, 0

    def rewind(self, step: int) -> None:
        """Begin, or begin again: whatever an earlier process wrote of later steps counts no more."""
        self._begun = True
        with self._faults.tolerated(self._folder):
            self._start_file(step + 1)

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        """Note numbers by name; before the first `rewind` nothing is noted."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()])

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        """Note a picture."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = io.BytesIO()
        image.save(content, "png")
        encoded = Summary.Image(
            width=image.width, height=image.height, colorspace=3, encoded_image_string=content.getvalue()
        )
        self._add(step, [Summary.Value(tag=name, image=encoded)])

    def _add(self, step: int, values: list) -> None:
        if not self._begun:
            return
        with self._faults.tolerated(self._folder):
            if self._file is None:
                self._start_file(step)
            self._append(step, values)

    def _start_file(self, first_step: int) -> None:
        """Start a file. TensorBoard then drops what other files have of `first_step` and later steps."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._files += 1
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}.{self._files}"
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
        file, self._file = self._file, None  # after an error the next numbers go to another file: this one may end
        with file.open("r+b") as content:  # in mid-record
            content.seek(0, os.SEEK_END)
            content.write(_records(event))
        self._file = file


def _records(*events) -> bytes:
    """Return events as they are in a file."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    for event in events:
        RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()
