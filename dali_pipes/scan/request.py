"""`ScanRequest`: the rows, files and thoroughness that a catalogue must have to be used as it is.

Video files and folders of pictures are asked for by different arguments; `VideoFiles` and `FrameFolders` hold those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np

from configs.sections.data import Check
from dali_pipes.lists.file_status import Files
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.probe import Found, reader, scan_file
from dali_pipes.video.frame_folders import probe_folder

CHECKS = get_args(Check)  # the least thorough first


class Source(Protocol):
    """A kind of input. `frames` is the number of frames that the list gives for a row, 0 if it gives none."""

    def arguments(self, path: str, check: Check, frames: int) -> tuple:
        """Return the arguments of `probe_path` for a path."""

    def journal_key(self, path: str, frames: int) -> str:
        """Return the key under which an unfinished scan files its result."""

    def is_answered_by(self, catalog: Catalog, row: int, frames: int) -> bool:
        """Return whether the catalogue's row for the same path was scanned with the same arguments."""


class VideoFiles:
    """Rows are video files: the result depends on the file alone."""

    def arguments(self, path: str, check: Check, frames: int) -> tuple:
        return path, check

    def journal_key(self, path: str, frames: int) -> str:
        return path

    def is_answered_by(self, catalog: Catalog, row: int, frames: int) -> bool:
        return True


@dataclass(frozen=True)
class FrameFolders:
    """Rows are folders of pictures: the result also depends on the names and the number of pictures asked for."""

    pattern: str

    def arguments(self, path: str, check: Check, frames: int) -> tuple:
        return path, check, self.pattern, frames

    def journal_key(self, path: str, frames: int) -> str:
        return f"{path}/{self.pattern} {frames}"

    def is_answered_by(self, catalog: Catalog, row: int, frames: int) -> bool:
        if not catalog.file_frames_N[row]:  # a catalogue does not keep the arguments that led to a refusal
            return False
        return catalog.video(row).description.decode() == self.pattern and frames in (0, catalog.file_frames_N[row])


def probe_path(path: str, check: Check, *of_folder) -> Found:
    """Scan a video file or, given a pattern and a number of frames, a folder of pictures. Raises DataError."""
    return Found(probe_folder(path, check, *of_folder), check) if of_folder else scan_file(path, check)


class ScanRequest:
    """Requirements for a catalogue: its rows, the present state of their files, and the least thorough check allowed.

    The D distinct files of the listing are numbered from 0.
    """

    def __init__(self, listing: Listing, files: Files, check: Check):
        self.listing = listing
        self.files = files
        self.check = CHECKS.index(check)

    def is_met_by(self, catalog: Catalog | None) -> bool:
        """Return whether the catalogue can be used without a scan."""
        if catalog is None or (catalog.digest, catalog.base) != (self.listing.digest, self.listing.base):
            return False
        rows = self.listing.distinct
        return (
            np.array_equal(catalog.size_N[rows], self.files.size_D)
            and np.array_equal(catalog.mtime_ns_N[rows], self.files.mtime_ns_D)
            and bool((catalog.check_N[rows] >= self.check).all())
            and catalog.reader == reader()
        )

    def path(self, number: int) -> str:
        """Return the absolute path of a distinct file."""
        return self.listing.path(self.listing.distinct[number])

    def source(self, number: int) -> Source:
        """Return the kind of a distinct file, as the file system has it."""
        return FrameFolders(self.listing.frame_pattern) if self.files.folder_D[number] else VideoFiles()

    def arguments(self, number: int) -> tuple:
        """Return the arguments with which `probe_path` scans a distinct file."""
        return self.source(number).arguments(self.path(number), CHECKS[self.check], self._num_frames(number))

    def journal_key(self, number: int) -> str:
        """Return the key under which an unfinished scan files the result of a distinct file."""
        return self.source(number).journal_key(self.path(number), self._num_frames(number))

    def is_answered_by(self, catalog: Catalog, row: int, number: int) -> bool:
        """Return whether a catalogue's row for the same path is the result that a scan of the file would give."""
        same_file = catalog.size_N[row] == self.files.size_D[number] and (
            catalog.mtime_ns_N[row] == self.files.mtime_ns_D[number]
        )
        thorough = catalog.check_N[row] >= self.check
        return bool(same_file and thorough) and self.source(number).is_answered_by(
            catalog, row, self._num_frames(number)
        )

    def _num_frames(self, number: int) -> int:
        counts_N = self.listing.num_frames_N
        return 0 if counts_N is None else int(counts_N[self.listing.distinct[number]])
