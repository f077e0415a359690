"""Documents name files, commands, flags and settings that exist, and their commands run."""

import re
import shlex
import sys
from itertools import pairwise

import pytest

import configs
import train
from configs.read import KINDS, SHIPPED
from tests.support.paths import ROOT
from tests.support.videos import write_video
from tools import prepare

GENERATED = "mistakes.md"  # its commands are meant to fail; tests/programs/test_mistakes.py runs them
DOCUMENTS = {
    path.name: path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    if path.name != GENERATED
}
OURS = ("configs", "dali_pipes", "models", "engine", "tools", "benchmarks", "tests", "docs")
PROGRAM = re.compile(r"(?:^|\s)((?:tools/|benchmarks/)?\w+\.py)\b")
FOREIGN_CELL = re.compile(r"^\| [^|]* \|", re.MULTILINE)  # the first column of from_*.md: the other project's name
OPTIONAL = re.compile(r"\[[^\]\s]*[^\]]*\]")
SHELL = {"|", ">", "<", ">/dev/null", "&&", "..."}
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def text_of(name):
    """Return a document without its quotes from other projects."""
    text = DOCUMENTS[name].read_text()
    return FOREIGN_CELL.sub("|", text) if name.startswith("from_") else text


def commands(text):
    """Return (program, words after it) of every command in code blocks and inline code that runs our programs."""
    inline = re.findall(r"`([^`]+)`", BLOCK.sub("", text))
    blocks = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in [*blocks, *(code.replace("\n", " ") for code in inline)]:
        program = PROGRAM.search(line.partition("#")[0])
        if (
            program
            and (ROOT / program[1]).is_file()
            and re.match(r"\s*(python|torchrun|find|PYTHONPATH|[\w/]+\.py )", line)
        ):
            rest = OPTIONAL.sub("", line.partition("#")[0][program.end() :]).replace("'", '"')
            words = shlex.split(rest)
            cut = next((index for index, word in enumerate(words) if word in SHELL - {"..."}), len(words))
            found.append((program[1], [word for word in words[:cut] if word not in SHELL]))
    return found


ALL = {(name, program, *words) for name in DOCUMENTS for program, words in commands(text_of(name))}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_exist(name):
    text = text_of(name)
    named = re.findall(r"`((?:\w[\w.-]*/)+[\w.-]+\.(?:py|yaml|md|jsonl|j2))`", text)
    gone = [path for path in named if path.split("/")[0] in OURS and not (ROOT / path).exists() and "NAME" not in path]
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert not gone + [link for link in links if not (DOCUMENTS[name].parent / link).exists()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_that_a_document_names_exist(name):
    sections = "|".join({key.partition(".")[0] for key in KINDS})
    named = re.findall(rf"(?<![\w./-])((?:{sections})\.[a-z_0-9]+)\b(?!\.?\w*[/(])", text_of(name))
    suffixes = (".json", ".mp4", ".py", ".pt", ".yaml", ".list", ".txt", ".md", ".csv")
    assert not {key for key in named if key not in KINDS and not key.endswith(suffixes)}


@pytest.mark.parametrize("command", sorted(ALL), ids=lambda command: " ".join(command[1:])[:60])
def test_flags_of_a_documented_command_exist(command):
    _, program, *words = command
    parts = [ROOT / program, ROOT / "configs/cli.py", ROOT / "tools/data/arguments.py"]
    if program == "tools/prepare.py" and words:
        names = words[0].split("|")  # `prepare.py scan|verify` names several
        assert set(names) <= {*prepare.COMMANDS, "COMMAND"}
        parts += [ROOT / f"tools/data/{name}.py" for name in names if name != "COMMAND"] + [
            ROOT / "tools/data/conversion/command.py"
        ]
    source = "".join(path.read_text() for path in parts)
    flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - {"--help", "-h"}
    assert not {flag for flag in flags if f'"{flag}"' not in source}


@pytest.mark.parametrize("command", sorted(ALL), ids=lambda command: " ".join(command[1:])[:60])
def test_recipes_and_settings_of_a_documented_command_load(command):
    _, program, *words = command
    if (
        "--config" not in words
        or "/" in words[words.index("--config") + 1]
        or program not in ("train.py", "eval.py", "tools/export.py", "benchmarks/throughput.py")
    ):
        return
    recipe = words[words.index("--config") + 1]
    varied = [word for before, word in pairwise(words) if before == "--vary"]
    settings = [word for word in words if re.match(r"[a-z]+\.[a-z_]+=\S", word) and word not in varied]
    overrides = [
        word for word in settings if not word.startswith("video.")
    ]  # settings of the set that the benchmark makes
    assert recipe.removesuffix(".yaml") in SHIPPED
    configs.load(recipe, overrides)
    for key, values in (word.split("=") for word in varied):
        for value in values.split(","):
            configs.load(recipe, [*overrides, f"{key}={value}"])


def test_every_statement_of_the_pages_that_are_replaced_has_a_test_or_a_reason():
    rows = [line.split(" | ") for line in DOCUMENTS["seeds.md"].read_text().splitlines() if line.startswith("| ")]
    statements = [row for row in rows if row[0] != "| PaddleVideo's page"]
    assert len(statements) > 50
    for statement, here, test in statements:
        assert here.strip(), statement
        named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)` \||no test: .+ \|", test)
        assert named, statement
        assert named[1] is None or f"\ndef {named[2]}(" in (ROOT / named[1]).read_text(), test


def test_amp_asks_for_half_precision(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "tsm_k400_frames.yaml", "--amp"])
    args = train.arguments()
    assert configs.load(args.config, args.overrides).runtime.precision == "fp16"


@pytest.mark.parametrize("network", ["TSM", "TSN"])
def test_settings_of_the_pages_that_are_replaced_are_those_of_the_recipes(network):
    section = DOCUMENTS["seeds.md"].read_text().partition(f"## {network}")[2].partition("## ")[0]
    recipe = configs.load(f"{network.lower()}_k400_videos")
    codes = [
        code for line in section.splitlines() if line.startswith("| ") for code in line.split(" | ")[1].split("`")[1::2]
    ]
    settings = [word for code in codes if ".py" not in code for word in code.split() if "=" in word]
    settings = [word for word in settings if word.partition("=")[0] not in ("data.train", "model.pretrained")]
    assert len(settings) >= 5
    assert configs.override(recipe, settings) == recipe


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Return a folder with the names of docs/data.md for a small list and small videos."""
    monkeypatch.chdir(tmp_path)
    for label in range(2):
        for number in range(2):
            write_video(tmp_path / f"{label}_{number}.mp4", "libx264", 24, gop=12, size=(64, 96))
    rows = [f"{label}_{number}.mp4 {label}\n" for label in range(2) for number in range(2)]
    (tmp_path / "LIST").write_text("".join(rows))
    return tmp_path


def documented(program, first):
    """Return the words of the command of docs/data.md that begins so."""
    return next(words for _, name, *words in sorted(ALL) if (_, name) == ("data.md", program) and words[0] == first)


@pytest.mark.parametrize("command", ["scan", "stats", "verify", "split", "subset", "transcode", "frames"])
def test_a_documented_command_that_prepares_data_runs(dataset, command):
    assert prepare.main(documented("tools/prepare.py", command)) == 0
