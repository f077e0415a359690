"""Imports point down: between the packages, and between the layers inside each of them."""

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

# Layers of a package, lowest first. A layer imports from those below it, and its modules do not import each other.
LAYERS = {
    "dali_pipes": (
        {"errors"},
        {"device", "storage"},
        {"lists", "video"},
        {"batch", "cut"},
        {"scan"},
        {"views"},
        {"feed", "synthetic"},
        {"loader"},
    ),
    "models": (
        {"errors", "recompute", "shift"},
        {"resnets"},
        {"backbones", "casting"},
        {"recognizer"},
        {"cost", "streaming", "weights"},
    ),
    "engine": (
        {"activity", "apex", "classes", "compile_table", "exits", "locks"},
        {"files", "watch"},
        {"logs", "output_record"},
        {"console", "distributed", "outputs"},
        {"loaders", "program", "runtime"},
        {"evaluation"},
        {"runs"},
        {"inference", "train"},
    ),
    "tools": ({"data", "exporting"}, {"prediction"}),
    "benchmarks": ({"harness"}, {"alternatives", "network", "nvdec"}, {"stages"}),
}


def imported_modules(path: Path):
    """Yield (line, dotted name) of each import in a file."""
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


def layer_of(package: str, module: str) -> int:
    """Return the number of a module's layer, counted from the lowest; a module in none is above all."""
    return next((number for number, layer in enumerate(LAYERS[package]) if module in layer), len(LAYERS[package]))


def siblings_imported(package: str, path: Path):
    """Yield (line, module) of each import from the file's own package, also by `from package import module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            yield from ((node.lineno, alias.name) for alias in node.names if is_module(package, alias.name))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            yield node.lineno, node.module.split(".")[1]


def is_module(package: str, name: str) -> bool:
    return (ROOT / package / name).is_dir() or (ROOT / package / f"{name}.py").is_file()


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_down_inside_a_package(package):
    wrong = []
    for path in sources(package):
        if path == ROOT / package / "__init__.py":
            continue  # it re-exports names of all layers
        module = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for line, other in siblings_imported(package, path):
            above = layer_of(package, other) >= layer_of(package, module)
            if other != module and above and layer_of(package, module) < len(LAYERS[package]):
                wrong.append(
                    f"{path.relative_to(ROOT)}:{line} imports {other}, which LAYERS does not have below {module}"
                )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_named_in_the_layers_exists(package):
    named = set().union(*LAYERS[package])
    assert all(is_module(package, module) for module in named), named


def test_only_one_folder_imports_torch_distributed():
    users = {
        path.relative_to(ROOT).as_posix()
        for place in BELOW
        for path in sources(place)
        if any(name.startswith("torch.distributed") for _, name in imported_modules(path))
    }
    assert all(user.startswith("engine/distributed/") for user in users), users


def test_no_source_file_exceeds_350_lines():
    long = {
        path.name: n for place in BELOW for path in sources(place) if (n := len(path.read_text().splitlines())) > 350
    }
    assert not long
