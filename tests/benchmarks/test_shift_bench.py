"""The benchmark of the shift: results are compared before they are timed, and a rehearsal records every case."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks.network import cases, layers
from benchmarks.network.scale import FORMS_MEASURED, GPU, SMALL, set_form, use_table
from configs.schema import Model
from models import build_model
from models.shift import cpu_products, measured
from tests.support.paths import ROOT


def test_the_convolutions_that_are_measured_are_those_of_resnet_50():
    counts = cases.layers(GPU)
    assert counts.total() == 16
    assert counts[cases.Layer(1024, 256, 14)] == 5
    assert counts[cases.Layer(64, 64, 56)] == counts[cases.Layer(256, 128, 56)] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_copied_and_folded_convolutions_agree_and_the_plain_one_differs(precision):
    layer = cases.Layer(16, 8, 3)
    cases.check_results(SMALL, layer, precision, cases.Tiles())
    torch.manual_seed(0)
    work = cases.work(cases.example(SMALL, layer, precision, 2), cases.Tiles())
    for name in cases.PASSES:
        copied, folded = work["copied", name](), work["folded", name]()
        torch.testing.assert_close(folded, copied.view(folded.shape), rtol=0.05, atol=0.2, check_dtype=False)
        assert not torch.allclose(work["plain", name]().view(folded.shape).float(), folded.float(), rtol=0.05, atol=0.2)


def test_a_wrong_kernel_is_not_timed(monkeypatch):
    right = cpu_products.input_grad
    monkeypatch.setattr(cpu_products, "input_grad", lambda *args: right(*args).roll(1, 0))
    with pytest.raises(ValueError, match=r"input_grad of 16to8at3 in fp32 is .* from fp64"):
        cases.check_results(SMALL, cases.Layer(16, 8, 3), "fp32", cases.Tiles())


def test_rows_of_this_device_take_the_place_of_older_ones(tmp_path, monkeypatch):
    old = {"device": measured.processor(), "dtype": "float32", "channels": 16, "filters": 8, "folded_ms": 9.0}
    other = old | {"device": "NVIDIA H200", "capability": "9.0"}
    (tmp_path / "shipped").write_text("".join(json.dumps(row) + "\n" for row in (old, other)))
    monkeypatch.setattr(measured, "FILE", tmp_path / "shipped")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured.forget()
    times = {way: [{"ms": 1.0}, {"ms": 2.0}, {"ms": 3.5}] for way in cases.WAYS}
    row = layers._row(SMALL, "fp32", cases.Layer(16, 8, 3), cases.Tiles(), times)
    layers._write_table([row], tmp_path / "table.jsonl")
    measured.forget()
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert rows == [row, other]
    assert row["plain_ms"] == row["copied_ms"] == row["folded_ms"] == 6.5


@pytest.mark.parametrize("form", FORMS_MEASURED)
def test_every_form_that_is_measured_is_the_same_network(form):
    torch.manual_seed(0)
    model = build_model(Model(backbone="resnet50", width=8, num_classes=2, frames=4)).double().eval()
    clips_BTCHW = torch.randn(1, 4, 3, 32, 32, dtype=torch.float64)
    expected = model(clips_BTCHW)
    set_form(model, FORMS_MEASURED[form])
    torch.testing.assert_close(model(clips_BTCHW), expected)


def test_auto_uses_the_table_just_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "FILE", measured.FILE)
    row = {
        "device": measured.processor(),
        "dtype": "float32",
        "channels": 3,
        "filters": 5,
        "copied_ms": 2.0,
        "folded_ms": 1.0,
    }
    (tmp_path / measured.FILE.name).write_text(json.dumps(row))
    use_table(tmp_path)
    assert measured.is_faster(torch.device("cpu"), torch.float32, 3, 5, compiled=False)
    monkeypatch.undo()
    measured.rows.cache_clear()


@pytest.mark.slow
def test_a_rehearsal_on_a_cpu_records_every_case(tmp_path):
    command = ["benchmarks/shift.py", "--device", "small", "--out", str(tmp_path), "--seconds", "120"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    records = {
        record["case"]: record for record in map(json.loads, (tmp_path / "shift.jsonl").read_text().splitlines())
    }
    assert not [case for case, record in records.items() if "error" in record or "skipped" in record]
    assert records["layers/fp32/128to32at2"]["count"] == 5
    assert set(records["steps/fp32/eager/over tsn"]) >= {"folded", "copied", "reference", "resnet50", "tsn again"}
    assert records["inference/fp32/eager/folded"]["clips_per_s"] > 0
    assert (tmp_path / records["kernels/fp32/eager/folded"]["all"]).read_text().count("ShiftConv1x1")
    assert len((tmp_path / "fold_table.jsonl").read_text().splitlines()) >= 8
