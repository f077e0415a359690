"""Write status.json of a run: its state, at each change and once a minute."""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

from engine.outputs import Outputs
from engine.runs import checkpoint_files
from engine.runs.disk_faults import DiskFaults
from engine.runs.environment import now

HEARTBEAT = 60.0  # seconds


class RunStatus:
    """The content of status.json. Thread-safe; a disk error is only a warning.

    `state` is running, preempted, finished or failed, which torchrun's exit codes do not show. `phase` is the stage of
    a running process, `checkpoint` the newest checkpoint, `time` that of the last write.
    """

    def __init__(self, file: Path, checkpoints: Path, outputs: Outputs, faults: DiskFaults):
        self._file, self._checkpoints, self._outputs, self._faults = file, checkpoints, outputs, faults
        self._before = file.read_text() if file.is_file() else None
        self._content: dict = {"state": "running", "step": 0}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def update(self, **changes: object) -> None:
        """Change fields and rewrite the file. Fields that are None are omitted."""
        with self._lock, self._faults.tolerated(self._file):
            self._content |= changes
            newest = next(iter(checkpoint_files.steps(self._checkpoints)), None)
            process = {"checkpoint": newest and str(newest), "pid": os.getpid(), "host": platform.node(), "time": now()}
            content = {name: value for name, value in {**self._content, **process}.items() if value is not None}
            self._outputs.write({self._file: json.dumps(content) + "\n"})

    def put_back(self) -> None:
        """Write the file again as it was before this start, if there was one."""
        with self._lock, self._faults.tolerated(self._file):
            if self._before is not None:
                self._outputs.write({self._file: self._before})

    def start_heartbeat(self, describe: Callable[[], dict]) -> None:
        """Write the fields that `describe` returns once a minute, in a thread."""

        def beat() -> None:
            while not self._stopped.wait(HEARTBEAT):
                self.update(**describe())

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    def stop_heartbeat(self) -> None:
        """End the thread of `start_heartbeat`."""
        self._stopped.set()
