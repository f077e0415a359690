"""Counts of the source tree for test_shape.py: folders, short modules, long functions, docstrings and their wording.

python -m tests.support.counts            # the figures
python -m tests.support.counts --list     # with the docstrings that begin with a question word
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.support.paths import ROOT

FOLDERS = ("configs", "dali_pipes", "models", "engine", "tools", "benchmarks")
PROGRAMS = ("train.py", "eval.py")
QUESTION_WORDS = ("What", "Whether", "How", "Why", "Which", "Of", "Where", "That")
SHORT_MODULE = 40  # lines
LONG_FUNCTION = 60  # lines

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Docstring:
    """A docstring, with the file and line of what it documents."""

    place: str
    text: str

    @property
    def is_a_question(self) -> bool:
        """True if it begins with a question word or `of`, so that it has no meaning without the name."""
        return self.text.split(maxsplit=1)[0].rstrip(",.:") in QUESTION_WORDS if self.text.strip() else False


def source_files() -> list[Path]:
    """Return the Python files of the project, without its tests."""
    folders = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted([*folders, *(ROOT / program for program in PROGRAMS)])


def files_of_tests() -> list[Path]:
    """Return the Python files of the tests."""
    return sorted((ROOT / "tests").rglob("*.py"))


def largest_folder() -> tuple[str, int]:
    """Return the folder with the most modules directly in it, tests included, and their number."""
    modules = [path for path in (*source_files(), *files_of_tests()) if path.name != "__init__.py"]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules)
    return counts.most_common(1)[0]


def short_modules() -> list[str]:
    """List the modules of fewer than 40 lines, except `__init__.py`."""
    return [
        _name(path)
        for path in source_files()
        if path.name != "__init__.py" and len(path.read_text().splitlines()) < SHORT_MODULE
    ]


def long_functions() -> list[str]:
    """List the functions of more than 60 lines."""
    return [
        f"{_name(path)}:{node.lineno} {node.name}"
        for path in source_files()
        for node in _walk(path)
        if isinstance(node, Function) and node.end_lineno - node.lineno + 1 > LONG_FUNCTION
    ]


def docstrings() -> list[Docstring]:
    """List the docstrings of all modules, classes, functions and attributes (such as the settings), tests included."""
    return [
        Docstring(f"{_name(path)}:{line}", text)
        for path in (*source_files(), *files_of_tests())
        for node in _walk(path)
        for line, text in _docstrings_of(node)
    ]


def _docstrings_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of a definition's own docstring, and of those that follow the attributes in its body."""
    if not isinstance(node, Function | ast.ClassDef | ast.Module):
        return
    if own := ast.get_docstring(node):
        yield getattr(node, "lineno", 1), own
    for before, after in pairwise(node.body):
        follows = isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr)
        if follows and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            yield after.lineno, after.value.value


def public_documented() -> tuple[int, int]:
    """Count the public classes and functions of all modules, nested ones left out: (with a docstring, all)."""
    public = [node for path in source_files() for node in _public(ast.parse(path.read_text()))]
    return sum(ast.get_docstring(node) is not None for node in public), len(public)


def _public(parent: ast.Module | ast.ClassDef) -> list[Function | ast.ClassDef]:
    """Return the public members of a module or class, and those of its public classes."""
    found = []
    for node in parent.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            found.append(node)
            if isinstance(node, ast.ClassDef):
                found += _public(node)
    return found


def _walk(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main() -> None:
    texts = docstrings()
    questions = [text for text in texts if text.is_a_question]
    documented, public = public_documented()
    folder, modules = largest_folder()
    print(f"largest folder            {modules} modules ({folder})")
    print(f"modules under 40 lines    {len(short_modules())}")
    print(f"functions over 60 lines   {len(long_functions())}")
    print(f"public docstrings         {100 * documented / public:.1f} % ({documented} of {public})")
    print(f"question-word docstrings  {100 * len(questions) / len(texts):.1f} % ({len(questions)} of {len(texts)})")
    if "--list" in sys.argv:
        print(*(f"{found.place}: {found.text.splitlines()[0]}" for found in questions), sep="\n")


if __name__ == "__main__":
    main()
