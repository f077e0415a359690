"""The house's order: imports point down, and what goes in does not know what it goes through."""

import ast
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BELOW = {
    "configs": set(),
    "dali_pipes": {"configs"},
    "models": {"configs"},
    "engine": {"configs", "dali_pipes", "models"},
    "tools": {"configs", "dali_pipes", "models", "engine"},
    "benchmarks": {"configs", "dali_pipes", "models", "engine", "tools"},
    "train.py": {"configs", "dali_pipes", "models", "engine"},
    "eval.py": {"configs", "dali_pipes", "models", "engine"},
}


def imported_modules(path: Path):
    """(line, dotted name) of each import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def sources(place: str) -> list[Path]:
    return [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))


@pytest.mark.parametrize("place", BELOW)
def test_imports_point_down(place):
    allowed = BELOW[place] | {place}
    ours = {name.removesuffix(".py") for name in BELOW}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}, which is not below {place}"
        for path in sources(place)
        for line, name in imported_modules(path)
        if name.split(".")[0] in ours - {a.removesuffix(".py") for a in allowed}
    ]
    assert not wrong, "\n".join(wrong)


def test_only_one_file_imports_torch_distributed():
    users = {
        path.relative_to(ROOT).as_posix()
        for place in BELOW
        for path in sources(place)
        if any(name.startswith("torch.distributed") for _, name in imported_modules(path))
    }
    assert users <= {"engine/distributed.py"}


def test_no_source_file_exceeds_350_lines():
    long = {
        path.name: n for place in BELOW for path in sources(place) if (n := len(path.read_text().splitlines())) > 350
    }
    assert not long
