"""The one command for a GPU: its sections fail alone, and fit into ten minutes; in small it runs here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.on_gpu import Section, run, sections

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("program", "seconds", "end"),
    [
        ("print('done')", 60, "well"),
        ("raise SystemExit(3)", 60, "exit code 3"),
        ("import time; time.sleep(60)", 1, "stopped after 1 s"),
    ],
)
def test_a_section_says_how_it_ended_and_keeps_its_output(tmp_path, program, seconds, end):
    section = Section([["-c", "print('first')"], ["-c", program], ["-c", "print('last')"]], seconds)
    assert run(section, tmp_path / "log.txt", {}) == end
    assert ("last" in (tmp_path / "log.txt").read_text().split()) == (end == "well")


def test_all_sections_together_take_less_than_ten_minutes_and_call_what_there_is(tmp_path):
    all_sections = sections(tmp_path, cpu=False).values()
    assert sum(section.seconds for section in all_sections) < 600
    programs = {command[0] for section in all_sections for command in section.commands}
    assert all((ROOT / program).is_file() for program in programs - {"-m"})


@pytest.mark.slow
def test_it_is_rehearsed_on_a_cpu(tmp_path):
    command = [sys.executable, "benchmarks/on_gpu.py", "stages", "peers", "training", "--device", "cpu"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    ends = [json.loads(line) for line in (tmp_path / "sections.jsonl").read_text().splitlines()]
    assert {end["case"]: end["ended"] for end in ends} == dict.fromkeys(["stages", "peers", "training"], "well")
