"""The choice between an eager and a compiled step: by GPU, by compute capability, or by counted traffic."""

import json

import pytest

from benchmarks.network import bytes as traffic
from benchmarks.tables import RESULTS
from configs.schema import Runtime
from engine import compile_table, runtime

ROWS = [
    {"device": "H200", "capability": "9.0", "precision": "fp16", "eager_ms": 8.0, "compiled_ms": 7.0},
    {"device": "H100", "capability": "9.0", "precision": "fp16", "eager_ms": 7.0, "compiled_ms": 8.0},
    {"device": "any GPU", "precision": "half", "eager_mb": 480, "compiled_mb": 400},
]


@pytest.fixture
def on(monkeypatch, tmp_path):
    """Choose as on a GPU of this name and capability, with these rows."""

    def choose(name, capability, precision="fp16", rows=ROWS):
        table = tmp_path / "table.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(compile_table, "gpu_name", lambda: name)
        monkeypatch.setattr(compile_table, "capability", lambda: capability)
        return compile_table.choose("cuda", precision, table)

    return choose


def test_a_gpu_with_rows_uses_its_own_measurements(on):
    assert on("H200", "9.0") == (True, "7 ms a step compiled, 8 eager, measured on H200")
    assert not on("H100", "9.0").compiled


def test_a_gpu_without_rows_uses_those_of_its_compute_capability(on):
    assert on("GH200", "9.0") == (True, "7 ms a step compiled, 8 eager, measured on H200")


def test_a_gpu_without_measurements_uses_the_counted_traffic(on):
    counted = (True, "400 MB a frame compiled, 480 eager, by count, not measured")
    assert on("B200", "10.0") == on("H200", "9.0", "bf16") == counted
    assert not on("B200", "10.0", "fp32").compiled
    assert not on("B200", "10.0", rows=[]).compiled


def test_other_devices_compute_eagerly():
    assert compile_table.choose("cpu", "bf16") == (False, "nothing is known of this device")


def test_the_shipped_counted_row_equals_the_recorded_count():
    (row,) = [row for row in compile_table.read(compile_table.FILE) if row["device"] == compile_table.ANY_GPU]
    records = map(json.loads, (RESULTS / "bytes.jsonl").read_text().splitlines())
    *_, newest = (record for record in records if record["case"] == traffic.WITHOUT)
    assert row["eager_mb"] == round(newest["mb_per_picture"], 1)
    assert row["compiled_mb"] == round(newest["compiled_mb_per_picture"], 1)


@pytest.mark.parametrize("asked, line", [("on", "step compiled: 7 ms"), ("off", "step eager although 7 ms")])
def test_the_line_at_the_start_names_the_measurement(monkeypatch, asked, line):
    known = compile_table.Verdict(True, "7 ms a step compiled, 8 eager, measured on H200")
    monkeypatch.setattr(compile_table, "choose", lambda device, precision: known)
    assert runtime.describe_compile(Runtime(device="cuda", compile=asked)).startswith(line)
    assert runtime.describe_compile(Runtime(device="cpu", compile="off")) == "step eager"
