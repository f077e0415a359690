"""The error a user sees when data cannot be used."""


class DataError(Exception):
    """Data that cannot be used: names the file (and line), what was seen, and what would work."""
