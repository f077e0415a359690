"""The error a user sees when the settings, or what they ask for, cannot be used."""


class ConfigError(Exception):
    """Settings that cannot be used: for each mistake a line with where it was made, what was seen, what would work."""
