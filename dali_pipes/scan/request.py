"""`ScanRequest`: the rows, file states and check that a catalogue must have to be used without a scan.

The result for a video file depends on the file alone; for a folder of frames, also on the frame count in the list.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from configs.sections.data import Check
from dali_pipes.lists.file_status import look
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.probe import Found, code, reader, scan_file
from dali_pipes.video.frame_folders import probe_folder

CHECKS = get_args(Check)  # from the least to the most thorough


def probe_path(path: str, check: Check, *of_folder) -> Found:
    """Scan a video file or, with a pattern and a number of frames, a folder of frames. Raises DataError."""
    return Found(probe_folder(path, check, *of_folder), check) if of_folder else scan_file(path, check)


class ScanRequest:
    """The requirements for a catalogue: its rows, the current state of their files, and the minimum check.

    The D distinct files of the listing are numbered from 0.
    """

    def __init__(self, listing: Listing, check: Check):
        self.listing = listing
        self.files = look(listing)
        self.check = CHECKS.index(check)

    def is_met_by(self, catalog: Catalog | None) -> bool:
        """Return True if the catalogue can be used without a scan."""
        if catalog is None or (catalog.digest, catalog.base) != (self.listing.digest, self.listing.base):
            return False
        rows = self.listing.distinct
        return (
            np.array_equal(catalog.size_N[rows], self.files.size_D)
            and np.array_equal(catalog.mtime_ns_N[rows], self.files.mtime_ns_D)
            and bool((catalog.check_N[rows] >= self.check).all())
            and catalog.reader == reader()
            and (catalog.code == code() or not bool(self._refused(catalog, rows).any()))
        )

    def path(self, number: int) -> str:
        """Return the absolute path of a distinct file."""
        return self.listing.path(self.listing.distinct[number])

    def arguments(self, number: int) -> tuple:
        """Return the arguments of `probe_path` for a distinct file; a folder of frames has two more."""
        return self.path(number), CHECKS[self.check], *self._of_folder(number)

    def journal_key(self, number: int) -> str:
        """Return the journal's key of a distinct file."""
        path, of_folder = self.path(number), self._of_folder(number)
        return "{}/{} {}".format(path, *of_folder) if of_folder else path

    def is_answered_by(self, catalog: Catalog, row: int, number: int) -> bool:
        """Return True if a catalogue's row for the same path equals the result of scanning the file."""
        same_file = catalog.size_N[row] == self.files.size_D[number] and (
            catalog.mtime_ns_N[row] == self.files.mtime_ns_D[number]
        )
        if not same_file or catalog.check_N[row] < self.check:
            return False
        if catalog.code != code() and self._refused(catalog, row):
            return False
        if not (of_folder := self._of_folder(number)):
            return True
        if not catalog.file_frames_N[row]:  # a catalogue does not store the arguments of an unreadable folder
            return False
        pattern, frames = of_folder
        return catalog.video(row).description.decode() == pattern and frames in (0, catalog.file_frames_N[row])

    @staticmethod
    def _refused(catalog: Catalog, rows: np.ndarray | int) -> np.ndarray:
        """Return True for rows of files that could be opened, but not used."""
        return (catalog.file_frames_N[rows] == 0) & (catalog.size_N[rows] >= 0)

    def _of_folder(self, number: int) -> tuple[()] | tuple[str, int]:
        """Return the name pattern and the number of frames of a folder (0 if the list does not give it); () for a
        file.
        """
        if not self.files.folder_D[number]:
            return ()
        counts_N = self.listing.num_frames_N
        return self.listing.frame_pattern, 0 if counts_N is None else int(counts_N[self.listing.distinct[number]])
