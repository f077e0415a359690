"""A causal TSM frame by frame: the same logits as over the whole clip."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from configs import ConfigError
from configs.schema import Model
from models import build_model
from models.streaming import Streaming
from tests.support import slim

ROUNDING = 1e-10  # for logits of the order of 1, in double precision
SINGLE = 1e-5  # relative to the largest logit, in single precision, between convolutions over one frame and over many
RESNETS = [{"backbone": "resnet18"}, {"backbone": "resnet50"}]
CASES = [*RESNETS, {"backbone": "mobilenet_v2", "width": 64}]


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, atol=ROUNDING, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("case", RESNETS)
def test_a_stream_of_64_frames_gives_the_logits_of_the_whole_clip(case, channels_last):
    model, clips_BTCHW = slim.network(causal=True, **case), slim.clips(2, 64)
    expected_BTK = model.frame_logits(clips_BTCHW)
    streaming = Streaming(model)
    if channels_last:
        streaming.to(memory_format=torch.channels_last)
        clips_BTCHW = clips_BTCHW.movedim(2, -1).contiguous().movedim(-1, 2)
    logits_TBK, _ = slim.streamed(streaming, clips_BTCHW.unbind(1), streaming.initial_caches(2, 32))
    assert_same(logits_TBK.transpose(0, 1), expected_BTK)


@torch.no_grad()
@pytest.mark.parametrize(
    "backbone, width, size",
    [
        ("resnet50", 8, 32),
        ("mobilenet_v2", 64, 32),
        pytest.param("resnet50", 64, 112, marks=pytest.mark.slow),
        pytest.param("resnet101", 64, 112, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 64, 112, marks=pytest.mark.slow),
    ],
)
def test_in_single_precision_a_stream_differs_by_rounding_only(backbone, width, size):
    model = slim.stable_network(causal=True, backbone=backbone, width=width)
    clips_BTCHW = slim.clips(1, 64, size).float()
    streaming = Streaming(model)
    logits_TBK, _ = slim.streamed(streaming, clips_BTCHW.unbind(1), streaming.initial_caches(1, size))
    expected_BTK = model.frame_logits(clips_BTCHW)
    largest = expected_BTK.abs().max().item()
    torch.testing.assert_close(logits_TBK.transpose(0, 1), expected_BTK, atol=SINGLE * largest, rtol=0)


@pytest.mark.gpu
@torch.no_grad()
def test_on_a_gpu_a_stream_in_fp16_differs_by_rounding_only():
    model = slim.stable_network(causal=True, num_classes=400).cuda().half()
    clips_BTCHW = slim.clips(2, 64, 112).cuda().half()
    streaming = Streaming(model.to(memory_format=torch.channels_last))
    logits_TBK, _ = slim.streamed(streaming, clips_BTCHW.unbind(1), streaming.initial_caches(2, 112))
    expected_BTK = model.frame_logits(clips_BTCHW)
    largest = expected_BTK.abs().max().item()
    torch.testing.assert_close(logits_TBK.transpose(0, 1), expected_BTK, atol=0.02 * largest, rtol=0)


def test_a_frame_without_caches_begins_a_stream():
    streaming, frames_TBCHW = Streaming(slim.network(causal=True)), slim.clips(3, 2)
    expected_TBK, _ = slim.streamed(streaming, frames_TBCHW, streaming.initial_caches(2, 32))
    actual_TBK, _ = slim.streamed(streaming, frames_TBCHW, ())
    assert torch.equal(actual_TBK, expected_TBK)


def test_a_stream_has_no_state_outside_its_caches():
    """Two streams take turns on one network, and one starts again; neither changes."""
    streaming, frames_TBCHW = Streaming(slim.network(causal=True)), slim.clips(8, 2)
    alone_TBK, _ = slim.streamed(streaming, frames_TBCHW, streaming.initial_caches(2, 32))
    first_TBK, caches = slim.streamed(streaming, frames_TBCHW[:5], streaming.initial_caches(2, 32))
    again_TBK, _ = slim.streamed(streaming, frames_TBCHW, streaming.initial_caches(2, 32))
    rest_TBK, _ = slim.streamed(streaming, frames_TBCHW[5:], caches)
    assert torch.equal(again_TBK, alone_TBK)
    assert torch.equal(torch.cat([first_TBK, rest_TBK]), alone_TBK)


def test_streams_in_a_batch_are_independent():
    streaming, frames_TBCHW = Streaming(slim.network(causal=True)), slim.clips(4, 3)
    together_TBK, _ = slim.streamed(streaming, frames_TBCHW, streaming.initial_caches(3, 32))
    for stream in range(3):
        alone_T1K, _ = slim.streamed(streaming, frames_TBCHW[:, stream : stream + 1], streaming.initial_caches(1, 32))
        assert_same(together_TBK[:, stream : stream + 1], alone_T1K)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("case", CASES)
def test_caches_keep_their_shape_type_and_layout_and_nothing_else_in_memory(case, layout):
    streaming = Streaming(slim.network(causal=True, **case)).to(memory_format=layout)
    start = streaming.initial_caches(2, 64)
    frame_BCHW = slim.clips(2, 1, 64).squeeze(1).to(memory_format=layout)
    _, caches = slim.streamed(streaming, [frame_BCHW, frame_BCHW], start)
    for before, after in zip(start, caches, strict=True):
        assert (before.shape, before.dtype, before.stride()) == (after.shape, after.dtype, after.stride())
        assert after.is_contiguous(memory_format=layout)
        assert after.untyped_storage().nbytes() == after.nbytes


def test_caches_have_the_type_of_the_weights():
    streaming = Streaming(slim.network(causal=True)).bfloat16()
    logits_BK, *caches = streaming(slim.clips(1, 1)[0].bfloat16(), *streaming.initial_caches(1, 32))
    assert {cache.dtype for cache in (logits_BK, *caches)} == {torch.bfloat16}


@pytest.mark.parametrize(
    "backbone, values",
    [
        # By hand: for each block that shifts, an eighth of its input's channels times its height times its width.
        ("resnet50", (8 + 3 * 32) * 56**2 + 4 * 64 * 28**2 + 6 * 128 * 14**2 + 2 * 256 * 7**2),
        ("mobilenet_v2", 3 * 56**2 + 2 * 4 * 28**2 + (3 * 8 + 2 * 12) * 14**2 + 2 * 20 * 7**2),
    ],
)
def test_cache_sizes_of_published_networks_equal_a_formula(backbone, values):
    with torch.device("meta"):
        streaming = Streaming(build_model(Model(backbone=backbone, num_classes=400, causal=True)))
    assert streaming.cache_bytes(224) == 4 * values
    assert streaming.half().cache_bytes(224) == 2 * values


def test_a_frame_of_a_stream_takes_the_flops_of_a_frame_of_a_clip():
    model = slim.network(causal=True)
    work = []
    for module, x in ((model, slim.clips(1, 4)), (Streaming(model), slim.clips(1, 1)[0])):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        work.append(counter.get_total_flops())
    assert work[0] == 4 * work[1]


def test_streaming_does_not_change_its_network():
    model = slim.network(causal=True).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    streaming = Streaming(model)
    streaming(slim.clips(1, 1)[0])
    assert model.training and not streaming.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model(slim.clips(1, 4)).shape == (1, 5)


@pytest.mark.parametrize("changes", [{}, {"name": "tsn"}])
def test_a_network_that_is_not_causal_is_refused(changes):
    with pytest.raises(ConfigError, match=r"model\.causal: this ts. needs whole clips.*model\.causal=true"):
        Streaming(slim.network(**changes))


def test_a_wrong_number_of_caches_is_refused():
    streaming = Streaming(slim.network(causal=True))
    with pytest.raises(ValueError, match="15 caches are given, but this network has 16"):
        streaming(slim.clips(1, 1)[0], *streaming.initial_caches(1, 32)[1:])
