"""The one command for a GPU: its sections fail alone, and fit into ten minutes; in small it runs here."""

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.harness.record import Recorder
from benchmarks.harness.session import Probe
from benchmarks.on_gpu import Section, environment, run, sections
from tests.support.paths import ROOT


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


def test_what_a_stopped_command_has_started_is_stopped_with_it(tmp_path):
    program = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    run(Section([["-c", program]], 3), tmp_path / "log.txt", {})
    pid = int((tmp_path / "log.txt").read_text().splitlines()[1])
    state = Path(f"/proc/{pid}/stat")
    for _ in range(50):  # the kill is under way
        if not state.exists() or state.read_text().split()[2] in "ZX":
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_libraries_that_were_brought_along_stay_in_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/brought/along")
    assert environment("cpu")["PYTHONPATH"].split(":") == [str(ROOT), "/brought/along"]


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


def test_a_case_that_hangs_ends_with_the_time_of_the_whole_run(tmp_path):
    """However patient the probe: what was measured before and comes after is kept."""
    recorder = Recorder("hang", tmp_path / "hang.jsonl")
    probe = Probe(SimpleNamespace(rounds=1), tmp_path, recorder, [], "python hang.py", patience=600)
    probe.section_end, probe.end = time.monotonic() + 600, time.monotonic() + 2
    answers = probe.ask({"well": (answer, "a"), "hangs": (answer, "hang")})
    recorder.close()
    assert answers == {"well": {"word": "a"}}
    *_, last = (tmp_path / "hang.jsonl").read_text().splitlines()
    assert json.loads(last)["error"] in ("hung the scanner for 1 s", "hung the scanner for 2 s")


def answer(word: str) -> dict:
    """What the probe asks for here; in native code no exception of Python's ends a hang."""
    if word == "hang":
        ctypes.CDLL(None).sleep(600)
    return {"word": word}
