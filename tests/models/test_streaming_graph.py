"""The graph of a streaming network: exported, compiled and in onnxruntime, with operations that these support."""

import pytest
import torch

from models.streaming import Streaming
from tests.support import slim

ROUNDING = 1e-10  # for logits of the order of 1, in double precision
SINGLE = 1e-5  # relative to the largest logit, in single precision
QUICK = {"backbone": "resnet18", "width": 8, "causal": True}
SLOW = [
    pytest.param(QUICK | {"backbone": "resnet50"}, marks=pytest.mark.slow),
    pytest.param(QUICK | {"backbone": "mobilenet_v2", "width": 64}, marks=pytest.mark.slow),
]


def in_place(operation):
    schema = getattr(operation, "_schema", None)
    return schema is not None and schema.is_mutable


def exported(module, *inputs, strict):
    """Return the module as a graph without in-place operations, and the names of its operations except views."""
    program = torch.export.export(module, inputs, strict=strict).run_decompositions()
    operations = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert not any(map(in_place, operations))
    names = {str(operation).removeprefix("aten.").split(".")[0] for operation in operations}
    return program.module(), names - {"squeeze", "unsqueeze"}


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", [QUICK, *SLOW])
def test_streaming_adds_only_slices_and_concatenations_to_a_network(case, strict):
    streaming, frames_TBCHW = Streaming(slim.network(**case)), slim.clips(3, 2)
    caches = streaming.initial_caches(2, 32)
    graph, operations = exported(streaming, frames_TBCHW[0], *caches, strict=strict)
    _, without = exported(slim.network(**case | {"name": "tsn", "causal": False}), frames_TBCHW[:1], strict=strict)
    assert operations - without - {"clone"} == {"slice", "cat"}  # torch 2.11 needs no clone
    expected_TBK = slim.streamed(streaming, frames_TBCHW, caches)[0]
    torch.testing.assert_close(slim.streamed(graph, frames_TBCHW, caches)[0], expected_TBK, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("case", [QUICK, *SLOW])
def test_a_compiled_stream_is_one_graph_and_equals_the_eager_one(case):
    streaming, frames_TBCHW = Streaming(slim.network(**case)), slim.clips(3, 2)
    caches = streaming.initial_caches(2, 32)
    compiled = torch.compile(streaming, fullgraph=True, backend="aot_eager")
    expected_TBK = slim.streamed(streaming, frames_TBCHW, caches)[0]
    torch.testing.assert_close(slim.streamed(compiled, frames_TBCHW, caches)[0], expected_TBK, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("case", [QUICK, *SLOW])
def test_onnxruntime_runs_an_exported_stream(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    streaming, frames_TBCHW = Streaming(slim.stable_network(**case)), slim.clips(5, 2).float()
    caches = streaming.initial_caches(2, 32)
    torch.onnx.export(streaming, (frames_TBCHW[0], *caches), tmp_path / "stream.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "stream.onnx")
    names = [given.name for given in session.get_inputs()]

    def run(*inputs):
        outputs = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
        return [torch.from_numpy(output) for output in outputs]

    expected_TBK = slim.streamed(streaming, frames_TBCHW, caches)[0]
    largest = expected_TBK.abs().max().item()
    torch.testing.assert_close(slim.streamed(run, frames_TBCHW, caches)[0], expected_TBK, atol=SINGLE * largest, rtol=0)
