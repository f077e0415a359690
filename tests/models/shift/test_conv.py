"""Convolutions that shift their input: all forms are the same convolution, and `auto` takes the faster one."""

import json

import pytest
import torch
from torch import nn

from configs.schema import Model
from models import build_model
from models.shift import measured
from models.shift.conv import FORMS, ShiftedConv2d, describe_shift
from models.shift.forms import temporal_shift

CPU = torch.device("cpu")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a function that writes rows into a table of measurements."""
    monkeypatch.setattr(measured, "FILE", tmp_path / "table.jsonl")
    monkeypatch.setattr(measured, "rows", measured.rows.__wrapped__)

    def write(*rows):
        measured.FILE.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write()
    return write


def row(**changes):
    layer = {"device": measured.processor(), "dtype": "float32", "channels": 8, "filters": 4}
    return layer | {"plain_ms": 1.0, "copied_ms": 1.2, "folded_ms": 1.1} | changes


def shifted(form, bias=False, **sizes):
    torch.manual_seed(0)
    conv = nn.Conv2d(**({"in_channels": 8, "out_channels": 4, "kernel_size": 1} | sizes), bias=bias)
    return conv, ShiftedConv2d(conv, frames=3, after=2, before=1, form=FORMS[form])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_convolution_of_the_shifted_input(form, bias):
    conv, ours = shifted(form, bias)
    x_NCHW = torch.randn(6, 8, 5, 5)
    torch.testing.assert_close(ours(x_NCHW), conv(temporal_shift(x_NCHW, 3, 2, 1)))


@pytest.mark.parametrize("form", ["auto", "reference", "where"])
def test_other_convolutions_than_1x1_shift_too(form):
    conv, ours = shifted(form, kernel_size=3, stride=2, padding=1)
    x_NCHW = torch.randn(6, 8, 5, 5)
    assert torch.equal(ours(x_NCHW), conv(temporal_shift(x_NCHW, 3, 2, 1)))


@pytest.mark.parametrize("sizes", [{"kernel_size": 3}, {"stride": 2}, {"padding": 1}, {"groups": 2}])
def test_only_plain_matrix_products_are_foldable(sizes):
    assert shifted("auto")[1].foldable
    assert not shifted("auto", **sizes)[1].foldable


def folds(form="auto", **sizes):
    """Return True if a convolution calls the folded shift."""
    _, conv = shifted(form, **sizes)
    with torch.profiler.profile() as profile:
        conv(torch.randn(6, 8, 5, 5))
    return any(event.key == "ShiftConv1x1" for event in profile.key_averages())


def test_auto_folds_if_folding_was_measured_to_be_no_slower_than_copying(table):
    assert not folds()
    table(row(folded_ms=1.1))
    assert folds()
    table(row(folded_ms=1.3))
    assert not folds()


@pytest.mark.parametrize("other", [{"device": "NVIDIA H200"}, {"dtype": "bfloat16"}, {"channels": 16}, {"filters": 8}])
def test_auto_does_not_fold_unmeasured_layers(table, other):
    table(row(**other))
    assert not folds()


def test_auto_folds_no_other_convolutions_than_1x1(table):
    table(row())
    assert not folds(kernel_size=3)


def test_auto_chooses_by_the_type_that_autocast_computes_in(table):
    table(row(dtype="bfloat16"))
    with torch.autocast("cpu", torch.bfloat16):
        assert folds()


def test_for_a_compiler_folding_has_to_be_as_fast_as_no_shift(table, monkeypatch):
    monkeypatch.setattr(measured, "device_name", lambda device: "a GPU")
    layer = torch.device("cuda"), torch.float16, 8, 4
    table(row(device="a GPU", dtype="float16", folded_ms=1.1))
    assert measured.is_faster(*layer, compiled=False) and not measured.is_faster(*layer, compiled=True)
    table(row(device="a GPU", dtype="float16", folded_ms=1.0))
    assert measured.is_faster(*layer, compiled=True)


def test_a_compiler_for_cpus_is_given_nothing_folded(table):
    table(row(folded_ms=0.1))
    _, conv = shifted("auto")
    targets = []

    def record(graph, example_inputs):
        targets.extend(str(node.target) for part in graph.modules() for node in part.graph.nodes)
        return graph

    torch.compile(conv, fullgraph=True, backend=record)(torch.randn(6, 8, 5, 5))
    assert "roll" in targets and not any("shift_conv1x1" in target for target in targets)


def test_an_exported_auto_shift_needs_no_custom_operator(table):
    table(row())
    program = torch.export.export(shifted("auto")[1], (torch.randn(6, 8, 5, 5),))
    assert not any("tsm" in str(node.target) for node in program.graph.nodes)


def test_describe_shift_counts_folded_and_copied_layers(table):
    table(row(filters=8), row(channels=32, filters=8))

    def said(**settings):
        model = build_model(Model(**({"backbone": "resnet50", "width": 8, "num_classes": 2} | settings)))
        return describe_shift(model, CPU, torch.float32, compiled=False)

    assert said(shift="folded") == "temporal shift in 16 conv layers: 16 folded into the convolution, 0 copied"
    assert said(shift="auto") == "temporal shift in 16 conv layers: 3 folded into the convolution, 13 copied"
    assert said(shift="where") == "temporal shift in 16 conv layers: 0 folded into the convolution, 16 copied"
    assert said(name="tsn") == "no temporal shift"


def test_the_line_for_a_gpu_without_rows_names_the_benchmark(table, monkeypatch):
    monkeypatch.setattr(measured, "device_name", lambda device: "a GPU")
    cuda, advice = torch.device("cuda"), "benchmarks/shift.py layers --device gpu --keep"

    def said(device, shift):
        model = build_model(Model(backbone="resnet50", width=8, num_classes=2, shift=shift))
        return describe_shift(model, device, torch.float16, compiled=False)

    assert advice in said(cuda, "auto")
    assert advice not in said(cuda, "where") + said(CPU, "auto")
    table(row(device="a GPU", dtype="float16", folded_ms=9))
    assert advice not in said(cuda, "auto")


def test_the_rows_that_are_shipped_have_what_the_rule_reads():
    rows = [json.loads(line) for line in measured.FILE.read_text().splitlines()]
    keys = [(row["device"], row["dtype"], row["channels"], row["filters"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row[name] > 0 for row in rows for name in ("plain_ms", "copied_ms", "folded_ms"))
