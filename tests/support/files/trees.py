"""Small trees of files for tests of lists, and a listing's rows in short."""

from pathlib import Path

from dali_pipes.lists.listing import Listing


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files of the given texts below a folder; returns the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    return root


def rows(listing: Listing) -> list[tuple[str, int]]:
    """(path, label) of each row."""
    return list(zip(listing.paths, listing.label_N.tolist(), strict=True))
