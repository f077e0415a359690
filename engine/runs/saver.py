"""Write checkpoints in a thread while training continues: copy to host memory first, then hash and write."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from torch import Tensor

from configs import ConfigError
from engine.runs import checkpoint, checkpoint_files
from models import CheckpointError

logger = logging.getLogger(__name__)


class Saver:
    """Writes one checkpoint at a time into a folder, and keeps the newest `keep`."""

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._saved: int | None = None

    @property
    def busy(self) -> bool:
        """Return True while a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, step: int, state: dict) -> None:
        """Copy `state` to host memory and start writing it. A failure is a warning: the next one may succeed."""
        self.finish()
        began = time.perf_counter()
        state = on_host(state)
        copied = time.perf_counter() - began
        self._thread = threading.Thread(target=self._write, args=(step, state, copied), name="saver", daemon=True)
        self._thread.start()

    def finish(self) -> int | None:
        """Wait for the checkpoint that is being written; return the step of the newest written one."""
        if self._thread:
            self._thread.join()
            self._thread = None
        return self._saved

    def _write(self, step: int, state: dict, copied: float) -> None:
        began = time.perf_counter()
        path = checkpoint_files.step_file(self._folder, step)
        try:
            checkpoint.save(path, state, step=step)
            checkpoint_files.tidy(self._folder, self._keep)
        except (CheckpointError, ConfigError, OSError) as error:
            logger.warning(f"{error}; training continues and tries again")
            return
        self._saved = step
        seconds = time.perf_counter() - began
        logger.info(f"{path.name}: training waited {copied:.2f} s for a copy, which took {seconds:.2f} s to write")


def on_host(content: object) -> object:
    """Copy a checkpoint's content to host memory, so that later steps do not change it."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {name: on_host(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(on_host, content))
    return content
