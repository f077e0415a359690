"""Tar shards of videos, as other programs write them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes], again: Mapping[str, bytes] | None = None, **options) -> Path:
    """Write a tar file with members of these names and contents, and those of `again` after them; return `path`."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content in [*members.items(), *(again or {}).items()]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
