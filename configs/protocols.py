"""The evaluation protocols that results are published with, by name, as settings of a recipe.

A protocol says which views of a video are scored. How their scores are averaged, and over how many frames, is the
recipe's to say; so is the size of a crop, unless pictures are shown at full resolution: then it is their short side.
"""

from __future__ import annotations

PROTOCOLS = {
    "center": {"clips": 1, "sampling": "uniform", "crops": "center", "size": 0},
    "tencrop": {"clips": 1, "sampling": "uniform", "crops": "ten", "size": 0},
    "fullres": {"clips": 1, "sampling": "uniform", "crops": "three", "size": "full"},
    "twice": {"clips": 2, "sampling": "uniform", "crops": "three", "size": "full"},
    "dense": {"clips": 10, "sampling": "dense", "crops": "three", "size": "full"},
}
"""`docs/evaluate.md` names the published numbers that each belongs to."""


def overrides(name: str) -> list[str]:
    """The protocol as `section.key=value` overrides."""
    return [f"eval.{key}={value}" for key, value in PROTOCOLS[name].items()]
