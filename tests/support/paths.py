"""Paths of the repository, its programs and the tests' reference data."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
PROGRAMS = [
    "train",
    "eval",
    *(f"tools/{name}" for name in ["demo", "export", "import_weights", "predict", "report", "scores", "status", "zoo"]),
]
