"""The evaluation protocols of published results, by name, as settings of a recipe.

A protocol defines the views of a video. The recipe defines the average of their scores, the frames of a clip, and the
crop size, except for full-resolution protocols, which crop at the short side.
"""

from __future__ import annotations

PROTOCOLS = {
    "center": {"clips": 1, "sampling": "uniform", "crops": "center", "size": 0},
    "tencrop": {"clips": 1, "sampling": "uniform", "crops": "ten", "size": 0},
    "fullres": {"clips": 1, "sampling": "uniform", "crops": "three", "size": "full"},
    "twice": {"clips": 2, "sampling": "uniform", "crops": "three", "size": "full"},
    "dense": {"clips": 10, "sampling": "dense", "crops": "three", "size": "full"},
}
"""docs/evaluate.md lists the published results of each."""


def overrides(name: str) -> list[str]:
    """Return a protocol as `section.key=value` overrides."""
    return [f"eval.{key}={value}" for key, value in PROTOCOLS[name].items()]
