"""Small trees of files, and the rows of a listing as pairs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dali_pipes.lists.listing import Listing
from engine.output_record import RECORD
from tools.data.conversion.convert import DONE
from tools.data.conversion.files import LOCK


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files with these texts below a folder; return the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Return a function that plants files in the folder of the test; a module names the fixture to use it."""
    return lambda files: plant(tmp_path, files)


def contents(root: Path) -> dict[str, bytes]:
    """Return every file of a tree of results, except the records of a conversion, which contain times."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in (DONE, RECORD, LOCK)]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def rows(listing: Listing) -> list[tuple[str, int]]:
    """Return (path, label) of each row."""
    return list(zip(listing.paths, listing.label_N.tolist(), strict=True))
