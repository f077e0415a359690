"""Copies of videos with their answers drawn in, side by side in one folder."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.video.packet_table import Video
from tools import overlay
from tools.overlay import Caption


class LabelledVideos:
    """Writes them into a folder, which it makes. Raises ConfigError where that cannot be."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._names: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--save-video: {folder}: cannot be made: {error.strerror}") from error

    def write(self, video: Video, answer: dict) -> dict:
        """What to add to the answer: as `labelled` the new file, or as `labelled_error` why there is none."""
        target = self.folder / self._free_name(Path(video.path).stem)
        guesses = answer.get("segments") or [{"start": 0, **answer["top"][0]}]
        captions = [
            Caption(guess["start"], f"{guess['name']}  {100 * guess['probability']:.0f} %") for guess in guesses
        ]
        try:
            overlay.write(video, target, captions)
        except DataError as error:
            return {"labelled_error": str(error).removeprefix(f"{video.path}: ")}
        return {"labelled": str(target)}

    def _free_name(self, stem: str) -> str:
        """A name that no other video of this run has, nor any video that a person keeps there."""
        numbered = (f"{stem}-{number}" for number in count(2))
        free = next(name for name in chain([stem], numbered) if name not in self._names)
        self._names.add(free)
        return f"{free}.labelled.mp4"
