"""`ScanRequest`: the rows, files and thoroughness that a catalogue must have to be used as it is.

The result for a video file depends on the file alone, that for a folder of pictures also on what the list says of them.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from configs.sections.data import Check
from dali_pipes.lists.file_status import look
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.probe import Found, reader, scan_file
from dali_pipes.video.frame_folders import probe_folder

CHECKS = get_args(Check)  # the least thorough first


def probe_path(path: str, check: Check, *of_folder) -> Found:
    """Scan a video file or, given a pattern and a number of frames, a folder of pictures. Raises DataError."""
    return Found(probe_folder(path, check, *of_folder), check) if of_folder else scan_file(path, check)


class ScanRequest:
    """Requirements for a catalogue: its rows, the present state of their files, and the least thorough check allowed.

    The D distinct files of the listing are numbered from 0.
    """

    def __init__(self, listing: Listing, check: Check):
        self.listing = listing
        self.files = look(listing)
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

    def arguments(self, number: int) -> tuple:
        """Return the arguments with which `probe_path` scans a distinct file; a folder of pictures has two more."""
        return self.path(number), CHECKS[self.check], *self._of_folder(number)

    def journal_key(self, number: int) -> str:
        """Return the key under which an unfinished scan files the result of a distinct file."""
        path, of_folder = self.path(number), self._of_folder(number)
        return "{}/{} {}".format(path, *of_folder) if of_folder else path

    def is_answered_by(self, catalog: Catalog, row: int, number: int) -> bool:
        """Return whether a catalogue's row for the same path is the result that a scan of the file would give."""
        same_file = catalog.size_N[row] == self.files.size_D[number] and (
            catalog.mtime_ns_N[row] == self.files.mtime_ns_D[number]
        )
        if not same_file or catalog.check_N[row] < self.check:
            return False
        if not (of_folder := self._of_folder(number)):
            return True
        if not catalog.file_frames_N[row]:  # a catalogue does not keep the arguments that led to a refusal
            return False
        pattern, frames = of_folder
        return catalog.video(row).description.decode() == pattern and frames in (0, catalog.file_frames_N[row])

    def _of_folder(self, number: int) -> tuple[()] | tuple[str, int]:
        """Return the names and the number of the pictures of a folder, 0 if the list does not say it; () for a file."""
        if not self.files.folder_D[number]:
            return ()
        counts_N = self.listing.num_frames_N
        return self.listing.frame_pattern, 0 if counts_N is None else int(counts_N[self.listing.distinct[number]])
