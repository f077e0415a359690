"""A chi-square statistic for tests of randomness. Every test draws fixed numbers, so it passes always or never."""

import numpy as np

SURPRISING = 4.5  # standard deviations: far above those of a fair draw, far below those of an error in the hash


def surprise(counts: np.ndarray) -> float:
    """Return the standard deviations between the chi-square of these counts and that of equally likely outcomes."""
    expected = counts.sum() / counts.size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = counts.size - 1
    return abs(chi_square - degrees) / np.sqrt(2 * degrees)
