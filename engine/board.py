"""The metrics of a run as TensorBoard reads them: `tensorboard --logdir runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """Scalars in a folder; metrics.jsonl has them, too.

    A disk that fails, or a machine without TensorBoard, costs the rest of them, not the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def rewind(self, step: int) -> None:
        """Begin, or begin again: whatever an earlier process wrote of later steps counts no more."""
        self._try(self._open, step)

    def add(self, kind: str, step: int, numbers: dict[str, object]) -> None:
        """Note the numbers among these under `kind/name`; before the first `rewind` nothing is noted."""
        if self._writer:
            self._try(self._write, kind, step, numbers)

    def close(self) -> None:
        """Write out what is noted; nothing is noted after that."""
        if self._writer:
            self._try(self._writer.close)
            self._writer = None

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def _write(self, kind: str, step: int, numbers: dict[str, object]) -> None:
        for name, number in numbers.items():
            if isinstance(number, int | float):
                self._writer.add_scalar(f"{kind}/{name}", number, step)
        self._writer.flush()  # a run may be killed

    def _try(self, act, *arguments) -> None:
        try:
            act(*arguments)
        except (OSError, ImportError) as error:
            self._writer = None
            print(f"warning: nothing more for TensorBoard: {error}", file=sys.stderr)
