"""The single command for a GPU machine: parts fail alone and fit into nine minutes; a small version runs on a CPU."""

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import on_gpu
from benchmarks.harness.record import Recorder
from benchmarks.harness.session import Probe
from benchmarks.network import compile_choice
from benchmarks.nvdec.scale import GPU
from benchmarks.on_gpu import FRAMES, RESERVE, Part, environment, limit, parts, run, stretch_to_fill
from engine import compile_table
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("program", "seconds", "end"),
    [
        ("print('done')", 60, "well"),
        ("raise SystemExit(3)", 60, "exit code 3"),
        ("import time; time.sleep(600)", 5, "stopped after 5 s"),
        ("print('done')", 4, "skipped: no time was left"),
    ],
)
def test_a_part_reports_how_it_ended_and_keeps_its_output(tmp_path, program, seconds, end):
    log = tmp_path / "log.txt"
    assert run(["-c", program], seconds, log, {}) == end
    assert not log.exists() if seconds == 4 else ("done" in log.read_text().split()) == (end == "well")


def test_stopping_a_part_stops_its_child_processes(tmp_path):
    pid_file = tmp_path / "pid"
    program = f"""
import pathlib, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
"""  # the child outlives its parent, which ends at once
    assert run(["-c", program], 60, tmp_path / "log.txt", {}) == "well"
    state = Path(f"/proc/{pid_file.read_text()}/stat")
    while state.exists() and state.read_text().split()[2] not in "ZX":  # the kill is under way
        time.sleep(0.01)


def test_stopping_a_part_stops_what_it_started_in_another_session(tmp_path):
    """As the benchmarks start the processes of their cases."""
    pid_file = tmp_path / "pid"
    program = f"""
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    assert run(["-c", program], 5, tmp_path / "log.txt", {}) == "stopped after 5 s"
    state = Path(f"/proc/{pid_file.read_text()}/stat")
    while state.exists() and state.read_text().split()[2] not in "ZX":  # the kill is under way
        time.sleep(0.01)


def test_libraries_that_were_brought_along_stay_in_the_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/brought/along")
    assert environment(rehearse=True)["PYTHONPATH"].split(":") == [str(ROOT), "/brought/along"]


def default_parts(out, rehearse):
    return {name: part for name, part in parts(out, rehearse).items() if not part.by_name_only}


def test_all_parts_together_take_nine_minutes_at_most_and_run_programs_that_exist(tmp_path):
    wanted = default_parts(tmp_path, rehearse=False)
    assert sum(part.seconds for part in wanted.values()) <= 540 - RESERVE
    programs = {part.command[0] for part in parts(tmp_path, rehearse=False).values()}
    assert all((ROOT / program).is_file() for program in programs - {"-m", "-c"})


@pytest.mark.parametrize("stretch", [0.5, 1, 2])
def test_a_part_ends_by_itself_before_it_is_stopped_so_that_it_writes_what_it_has(tmp_path, stretch):
    sections = {"library": 0.08, "frames": 0.31, "decoders": 0.6}  # shares of the time, of the probe
    for name, part in parts(tmp_path, False, stretch).items():
        if "--seconds" in part.command:
            own = float(part.command[part.command.index("--seconds") + 1]) * sections.get(name, 1)
            assert own + 4 * stretch - 1 <= part.seconds <= own + 20 * stretch


def test_steps_of_training_are_eager_because_compiling_takes_longer_than_a_part(tmp_path):
    commands = [part.command for part in parts(tmp_path, rehearse=False).values()]
    training = [words for words in commands if words[0] == "benchmarks/throughput.py"]
    assert training and all("runtime.compile=off" in words for words in training)


def test_parts_share_the_minutes_and_few_get_twice_their_time_at_most(tmp_path):
    known = parts(tmp_path, rehearse=False)
    assert stretch_to_fill(default_parts(tmp_path, rehearse=False), 540) >= 1
    asked = {"compiled": known["compiled"]}
    assert stretch_to_fill(asked, 150) == pytest.approx(120 / known["compiled"].seconds)
    assert stretch_to_fill(asked, 540) == 2


def test_a_part_gets_its_own_time_and_what_those_before_it_have_left_but_no_more_than_is_left_of_all():
    part = Part([], 40)
    assert limit(part, False, planned=100, left=300) == 100
    assert limit(part, False, planned=25, left=300) == 40
    assert limit(part, False, planned=100, left=30) == 30


def test_parts_follow_the_order_of_the_questions(tmp_path):
    questions = "machine library frames decoders", "layers eager nvdec pyav tests", "compiled ceiling graph8"
    order = [name for names in questions for name in names.split()]
    assert list(default_parts(tmp_path, rehearse=False)) == list(default_parts(tmp_path, rehearse=True)) == order


def test_the_frame_cases_cover_both_codecs_and_all_keyframe_intervals(tmp_path):
    """H.264 and HEVC have a keyframe every 1, 8 and 16 frames; some have B-frames or a size that NVDEC pads."""
    named = {spec.name for spec in GPU.all_videos if any(f"frames/{spec.name}".startswith(word) for word in FRAMES)}
    assert {f"{codec}-i{interval}-b0-{size}" for codec in ("h264", "hevc") for interval in (1, 8, 16)
            for size in ("352x256", "340x256")} <= named  # fmt: skip
    assert {"h264-i16-b2-352x256", "hevc-i8-b2-352x256"} <= named


def test_without_nvdec_its_parts_are_skipped_and_each_result_is_written_at_once(tmp_path, monkeypatch):
    seen = []

    def missing():
        raise OSError("libnvcuvid.so.1: cannot open shared object file")

    def record(command, seconds, log, environment):
        seen.append((command[1], [json.loads(line)["case"] for line in lines(tmp_path)]))
        return "well"

    monkeypatch.setattr(on_gpu, "run", record)
    monkeypatch.setattr(on_gpu.nvdec, "library", missing)  # which also looks into the folders of drivers
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", "frames", "layers", "eager", "--out", str(tmp_path)])
    assert on_gpu.main() == 1
    assert seen == [("layers", ["frames"]), ("steps", ["frames", "layers"])]
    ends = [json.loads(line)["ended"] for line in lines(tmp_path)]
    assert ends[0].startswith("skipped: no NVDEC") and ends[1:] == ["well", "well"]


def lines(folder):
    return (folder / "parts.jsonl").read_text().splitlines()


def test_the_faster_mode_of_the_step_is_kept_for_the_device(tmp_path):
    records, table = tmp_path / "shift.jsonl", tmp_path / "compile_table.jsonl"
    table.write_text(json.dumps({"device": "B200", "precision": "fp16", "eager_ms": 1, "compiled_ms": 2}) + "\n")
    cases = {"fp16/eager/tsn": 1.0, "fp16/eager/auto": 9.0, "fp16/eager/folded": 8.0, "fp16/compiled/folded": 7.0}
    record = [{"case": f"steps/{case}", "ms": ms} for case, ms in (cases | {"bf16/eager/auto": 5.0}).items()]
    records.write_text("".join(json.dumps(line) + "\n" for line in [*record, {"case": "steps/fp16/eager/over tsn"}]))
    for _ in range(2):  # a second run replaces its own row
        compile_choice.write(records, "H200", "9.0", table)
    assert compile_table.read(table)[1:] == [
        {"device": "H200", "capability": "9.0", "precision": "fp16", "eager_ms": 8.0, "compiled_ms": 7.0}
    ]


@pytest.mark.slow
def test_every_part_is_rehearsed_on_a_cpu(tmp_path):
    command = [sys.executable, "benchmarks/on_gpu.py", *parts(tmp_path, rehearse=True), "--rehearse"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=False, capture_output=True)
    ends = {end["case"]: end["ended"] for end in map(json.loads, lines(tmp_path))}
    assert ends == dict.fromkeys(parts(tmp_path, rehearse=True), "well")


def test_a_case_that_hangs_ends_with_the_time_of_the_whole_run(tmp_path):
    """Measurements before the hanging case are kept, however patient the probe is."""
    recorder = Recorder("hang", tmp_path / "hang.jsonl")
    probe = Probe(SimpleNamespace(rounds=1), tmp_path, recorder, [], "python hang.py", patience=600)
    probe.section_end, probe.end = time.monotonic() + 600, time.monotonic() + 2
    answers = probe.run({"well": (answer, "a"), "hangs": (answer, "hang")})
    recorder.close()
    assert answers == {"well": {"word": "a"}}
    *_, last = (tmp_path / "hang.jsonl").read_text().splitlines()
    assert json.loads(last)["error"] in ("no progress for 1 s", "no progress for 2 s")


def answer(word: str) -> dict:
    """Answer a case as the probe would; one case hangs in native code, which no Python exception interrupts."""
    if word == "hang":
        ctypes.CDLL(None).sleep(600)
    return {"word": word}
