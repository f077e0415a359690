"""Lines with a header: what its columns are called, and a later line as a mapping from these names."""

from __future__ import annotations

import csv
from typing import NamedTuple

from dali_pipes.formats.annotation import Source


class Header(NamedTuple):
    """The first line of a table."""

    names: list[str]  # lower case
    delimiter: str

    def fields(self, line: str) -> dict[str, str]:
        """The fields of a later line, without blanks around them. Raises ValueError where they are not as many."""
        values = split(line, self.delimiter)
        if len(values) != len(self.names):
            raise ValueError(f"{len(values)} fields, but the header names {len(self.names)}")
        return dict(zip(self.names, values, strict=True))


def header(source: Source) -> Header:
    """The header of a source, if it has one; else names that mean nothing."""
    line = source.first_line
    delimiter = max(",\t;", key=line.count)
    try:
        return Header([name.lower() for name in split(line, delimiter)], delimiter)
    except ValueError:
        return Header([], delimiter)


def split(line: str, delimiter: str) -> list[str]:
    """The fields of a line, quotes taken off as CSV has them. Raises ValueError."""
    try:
        return [field.strip() for field in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"not a line of a table: {error}") from error
