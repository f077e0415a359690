"""Rows of the shift's table: by GPU name, by compute capability, and measured once on an unknown GPU."""

import json
import time

import pytest
import torch

from configs.schema import Model
from models import build_model
from models.shift import measured, measuring
from models.shift.conv import ShiftedConv2d

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ROW = {"dtype": "float16", "channels": 8, "filters": 4, "plain_ms": 1.0, "copied_ms": 1.2, "folded_ms": 0.9}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Yield a function that ships rows, on a machine with a GPU of capability 9.0 and an empty cache."""
    monkeypatch.setattr(measured, "FILE", tmp_path / "shipped.jsonl")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "VALUES", 1 << 12)
    monkeypatch.setattr(measured, "device_name", lambda device: "A New Card")
    monkeypatch.setattr(measured, "capability", lambda device: "capability 9.0")

    def ship(*rows):
        measured.FILE.write_text("".join(json.dumps(row) + "\n" for row in rows))
        measured.rows.cache_clear()

    ship()
    yield ship
    measured.rows.cache_clear()


@pytest.fixture
def model():
    return build_model(Model(backbone="resnet50", width=8, num_classes=2))


def on_this_cpu(monkeypatch, work=lambda: None):
    """Let layers be timed on this CPU during `work` and later; return a list with the shapes of each call."""
    calls, time_layers = [], measuring.time_layers

    def time_here(layers, *_):
        calls.append([(layer.in_channels, layer.out_channels) for layer in layers])
        return time_layers(layers, CPU, torch.float32)

    monkeypatch.setattr(measuring, "time_layers", time_here)
    monkeypatch.setattr(measuring, "REPEATS", 1)
    work()
    return calls


def test_a_gpu_without_rows_takes_rows_of_its_compute_capability(table):
    table(ROW | {"device": "Other", "capability": "8.0"}, ROW | {"device": "NVIDIA H200", "capability": "9.0"})
    assert measured.source(GPU, torch.float16) == "NVIDIA H200"
    assert measured.is_faster(GPU, torch.float16, 8, 4, compiled=False)
    assert measured.source(GPU, torch.bfloat16) == ""


def test_a_gpus_own_rows_precede_those_of_its_compute_capability(table):
    mine = ROW | {"device": "A New Card", "capability": "9.0", "folded_ms": 2.0}
    table(ROW | {"device": "NVIDIA H200", "capability": "9.0"}, mine)
    assert measured.source(GPU, torch.float16) == "A New Card"
    assert not measured.is_faster(GPU, torch.float16, 8, 4, compiled=False)


def test_an_unknown_card_is_measured_once_and_for_all_ranks(table, model, monkeypatch):
    calls = on_this_cpu(monkeypatch)
    for _ in range(2):
        measuring.measure_missing(model, GPU, torch.float32)
        assert measured.source(GPU, torch.float32) == "A New Card"
    assert len(calls) == 1
    rows = [json.loads(line) for line in measured.user_file().read_text().splitlines()]
    assert len(rows) == 8
    assert min(row[f"{form}_ms"] for row in rows for form in ("plain", "copied", "folded")) > 0
    assert measured.FILE.read_text() == "", "the package is not written to"


def test_layers_without_rows_are_measured_also_if_the_card_has_rows_of_others(table, model, monkeypatch):
    """As after a run of another network, or one that had no time for all layers."""
    table(ROW | {"device": "A New Card", "dtype": "float32", "channels": 8, "filters": 8})
    (layers,) = on_this_cpu(monkeypatch, lambda: measuring.measure_missing(model, GPU, torch.float32))
    assert len(layers) == 7 and (8, 8) not in layers
    assert measured.find(GPU, torch.float32, 256, 64)


def test_nothing_is_measured_on_a_cpu_or_for_another_form(table, model, monkeypatch):
    monkeypatch.setattr(measuring, "time_layers", lambda *_: pytest.fail("measured"))
    measuring.measure_missing(model, CPU, torch.float32)
    copied = build_model(Model(backbone="resnet50", width=8, num_classes=2, shift="where"))
    measuring.measure_missing(copied, GPU, torch.float32)


def test_layers_that_take_too_long_are_left_out(table, model, monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", -1.0)
    layers = [part for part in model.modules() if isinstance(part, ShiftedConv2d)]
    assert measuring.time_layers(layers, CPU, torch.float32) == []


@pytest.mark.gpu
def test_a_gpu_times_its_kernels_and_not_their_launches(monkeypatch):
    monkeypatch.setattr(measuring, "REPEATS", 3)
    x_C = torch.ones(1000, device="cuda")
    assert 0 < measuring._milliseconds(lambda: [time.sleep(0.001), x_C.add(1)], GPU) < 0.5
    layer = next(part for part in build_model(Model(num_classes=2)).modules() if isinstance(part, ShiftedConv2d))
    (row,) = measuring.time_layers([layer], GPU, torch.float16)
    assert 0 < row["plain_ms"] < row["copied_ms"] < 100
