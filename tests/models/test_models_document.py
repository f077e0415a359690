"""docs/models.md is up to date: its table is the program's output, its example runs, its numbers are computed."""

import re

import torch

from benchmarks import costs
from configs.schema import Model
from models import Streaming, build_model
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "models.md").read_text()


def test_the_table_of_costs_is_the_one_that_is_printed():
    assert costs.table() in DOCUMENT


def test_the_documented_example_of_a_stream_runs():
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names = {}
    with torch.inference_mode():
        exec(example.replace("224", "32"), names)  # smaller, to be quick
    assert names["logits_BK"].shape == (2, 400)
    assert len(names["caches"]) == 16


def test_the_documented_cache_size_of_a_stream_is_the_computed_one():
    with torch.device("meta"):
        streaming = Streaming(build_model(Model(num_classes=400, causal=True)))
    megabytes = streaming.cache_bytes(224) / 1e6
    said = f"{megabytes:.2f} MB in fp32, {megabytes / 2:.2f} MB in fp16 and {megabytes / 4:.2f} MB at a byte each"
    assert said in DOCUMENT.replace("\n", " ")
