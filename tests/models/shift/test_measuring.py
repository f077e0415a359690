"""Rows of the shift's table: by GPU name, by compute capability, and measured once on an unknown GPU."""

import json

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
    calls = []
    time_layers = measuring.time_layers
    monkeypatch.setattr(
        measuring, "time_layers", lambda layers, *_: calls.append(1) or time_layers([*layers][:1], CPU, torch.float32)
    )
    for _ in range(2):
        measuring.measure_missing(model, GPU, torch.float32)
        assert measured.source(GPU, torch.float32) == "A New Card"
    assert len(calls) == 1
    (row,) = map(json.loads, measured.user_file().read_text().splitlines())
    assert min(row[f"{form}_ms"] for form in ("plain", "copied", "folded")) > 0
    assert measured.FILE.read_text() == "", "the package is not written to"


def test_nothing_is_measured_on_a_cpu_or_for_another_form(table, model, monkeypatch):
    monkeypatch.setattr(measuring, "time_layers", lambda *_: pytest.fail("measured"))
    measuring.measure_missing(model, CPU, torch.float32)
    copied = build_model(Model(backbone="resnet50", width=8, num_classes=2, shift="where"))
    measuring.measure_missing(copied, GPU, torch.float32)


def test_layers_that_take_too_long_are_left_out(table, model, monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", -1.0)
    layers = [part for part in model.modules() if isinstance(part, ShiftedConv2d)]
    assert measuring.time_layers(layers, CPU, torch.float32) == []
