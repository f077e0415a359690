"""Broken and hostile recipes: each is refused quickly, in one line, and no code in it runs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import configs
from configs.read import KINDS, SECTIONS
from tests.support import recipes
from tests.support.paths import ROOT
from tests.support.recipes import RECIPE, errors

write = recipes.write


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HARMFUL = {
    "bomb": (BOMB, "recipe.yaml:1: a: no such key; there are model, data, clip, eval, optim, train, runtime"),
    "bomb in a value": (
        "model:\n  x: &a [x, x]\n  y: &b [*a, *a]\n  width: [*b, *b]\n",
        "recipe.yaml:4: model.width: expected a whole number, got ['...', '...']",
    ),
    "self-reference": (
        "model: {width: &a [*a]}",
        "recipe.yaml:1: model.width: expected a whole number, got ['...']",
    ),
    "section in itself": ("model: &a {model: *a}", "recipe.yaml:1: model.model: no such key; did you mean model.name?"),
    "deep mappings": ("\n{a: " * 10_000, None),
    "deep blocks": ("- " * 20_000, None),
    "large": ("# " + "x" * 10_000_000, "recipe.yaml: larger than 65536 bytes, so not a recipe"),
    "code": (
        "train: {name: !!python/object/apply:os.system [touch canary]}",
        "recipe.yaml:1: train.name: the tag !!python/object/apply:os.system is not allowed; write a plain value",
    ),
    "code in a list": (
        "optim: {milestones: [!!python/name:os.system x]}",
        "recipe.yaml:1: optim.milestones: the tag !!python/name:os.system is not allowed; write a plain value",
    ),
    "code for a section": (
        "model: !!python/object:os.system {name: tsm}",
        "recipe.yaml:1: model: the tag !!python/object:os.system is not allowed; write a plain value",
    ),
    "code for everything": (
        "!!python/object:os.system {model: {name: tsm}}",
        "recipe.yaml:1: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "environment": (
        "data: {root: '${oc.env:CANARY}'}",
        "recipe.yaml:1: data.root: interpolation with ${...} is not supported; write the value itself",
    ),
    "environment in a list": (
        "optim: {milestones: ['${oc.env:CANARY}']}",
        "recipe.yaml:1: optim.milestones: interpolation with ${...} is not supported; write the value itself",
    ),
    "value to come, in a list": (
        "optim: {milestones: ['???']}",
        "recipe.yaml:1: optim.milestones: ??? stands for a value still to be given; write the value itself",
    ),
    "digits": (f"model: {{width: {'9' * 6000}}}", None),
    "digits for a fraction": (
        f"clip: {{flip: {'9' * 400}}}",
        "recipe.yaml:1: clip.flip: inf is not a finite number",
    ),
    "unclosed": (
        "model:\n  name: [tsm\n",
        "recipe.yaml:3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    ),
    "tab": (
        "model:\n\tname: tsm\n",
        "recipe.yaml:2: not valid YAML: found character '\\t' that cannot start any token",
    ),
    "two documents": (
        "model: {}\n---\nmodel: {}\n",
        "recipe.yaml:2: not valid YAML: but found another document",
    ),
    "line break in a key": (
        '"zz\\nz": 3',
        "recipe.yaml:1: ?: no such key; there are model, data, clip, eval, optim, train, runtime",
    ),
    "empty": (
        "",
        "recipe.yaml:1: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "list": (
        "# a list\n- model\n",
        "recipe.yaml:2: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "control character": (
        "model:\n  name: t\x07",
        "recipe.yaml:2: not valid YAML: the character '\\x07' is not allowed",
    ),
    "not text": (b"model:\n  name: \xff\xfe\n", "recipe.yaml:2: not UTF-8 text"),
}


@pytest.mark.parametrize("content, line", HARMFUL.values(), ids=HARMFUL)
def test_a_hostile_or_broken_recipe_is_refused_within_a_second_of_cpu_time(write, monkeypatch, content, line):
    monkeypatch.setenv("CANARY", "canary's value")
    recipe = write(content)
    started = time.process_time()
    lines = errors(recipe)
    assert time.process_time() - started < 1
    assert lines and all(len(line) < 300 and "canary's value" not in line for line in lines)
    assert line is None or line in lines
    assert not Path("canary").exists()


def test_lists_nested_too_deeply_are_refused(write):
    assert errors(write("model: " + "[" * 2_000)) == ["recipe.yaml:1: not valid YAML: nested too deeply"]


def test_hostile_recipes_take_little_memory(write):
    """One process reads all recipes and its peak is checked: a process for each would take minutes."""
    for name, (content, _) in HARMFUL.items():
        Path(f"{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    program = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
import configs
for path in pathlib.Path().glob("*.yaml"):
    try:
        configs.load(path)
    except configs.ConfigError:
        continue
    raise SystemExit(f"{{path}} was loaded")
# not getrusage: its peak includes the process that this one was forked from
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peak_kib = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(peak_kib) < 150 * 1024


@pytest.mark.parametrize("content", ["\ufeff" + RECIPE, RECIPE.replace("\n", "\r\n"), RECIPE.rstrip()])
def test_a_recipe_from_any_editor_loads(write, content):
    assert configs.load(write(content)).train.batch == 64


@pytest.mark.slow
@given(st.text() | st.text("ab:-[]{}&*!?|>'\"%@`#,. \n\t0"))
def test_any_text_is_a_recipe_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    lines = errors(str(path))
    assert lines and all(line.startswith((f"{path}:", *KINDS)) for line in lines)


@pytest.mark.slow
@given(st.sampled_from([*KINDS, *SECTIONS, ""]), st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_override_is_taken_or_a_config_error(key, text):
    assert all(line.startswith(("argument ", "demo.yaml:", *KINDS)) for line in errors("demo", f"{key}={text}"))


def test_an_unknown_recipe_is_refused_with_the_nearest_or_all_shipped_ones():
    shipped = ", ".join(sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
    assert errors("tsn_k400_video") == [
        "tsn_k400_video: no such file, nor a shipped recipe; did you mean tsn_k400_videos?"
    ]
    assert errors("xyz") == [f"xyz: no such file, nor a shipped recipe; there are {shipped}"]


def test_a_folder_or_a_device_is_not_a_recipe(tmp_path):
    for path in (str(tmp_path), "/dev/zero"):
        assert [line.split(";")[0] for line in errors(path)] == [f"{path}: not a file"]


def test_a_file_without_read_permission_is_reported_as_such(monkeypatch, write):
    recipe = write(RECIPE)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs tests in containers, may read everything
    assert errors(recipe) == ["recipe.yaml: cannot be read: Permission denied"]
