"""Device, precision and compilation of a run, and the errors if they are not available."""

import shutil
import sysconfig

import pytest
import torch

from configs import ConfigError
from dali_pipes import device as host
from engine import distributed, program, runtime
from tests.support import tiny


@pytest.mark.parametrize("usual", ["highest", "high"])
def test_fp32_can_be_exact_for_a_while_even_where_training_has_allowed_tf32(usual):
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    torch.set_float32_matmul_precision(usual)
    before = allowed()
    with runtime.exact_fp32():
        assert allowed() == (False, False)
        torch.export.export(torch.nn.Identity(), (torch.ones(1),))  # which reads them
    assert allowed() == before == (usual == "high", True)
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("threads, used", [(1, 1), (3, 3), (64, 4), ("auto", 4)])
def test_a_cpu_computes_with_as_many_threads_as_asked_for_but_no_more_than_the_rank_has_cores(
    monkeypatch, threads, used
):
    monkeypatch.setattr(host, "cores_of_rank", lambda: 4)
    before = torch.get_num_threads()
    try:
        runtime.prepare(tiny.config(runtime={"device": "cpu", "threads": threads}).runtime, seed=0)
        assert torch.get_num_threads() == used
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("local_rank, error", [(0, ConfigError), (1, distributed.PeerFailed)])
def test_more_processes_than_gpus_are_refused_in_one_line_a_host(monkeypatch, local_rank, error):
    launched = dict.fromkeys(distributed.LAUNCH_VARIABLES, "0") | {
        "LOCAL_WORLD_SIZE": "2",
        "LOCAL_RANK": str(local_rank),
    }
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(error) as raised, distributed.processes("cuda", 300):
        pass
    assert local_rank or "2 processes on a host where each sees 1 GPUs" in str(raised.value)


def test_memory_that_does_not_suffice_names_the_setting_that_needs_less(capfd):
    def work():
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. Of the allocated memory 1 GiB ..."
        )

    assert program.run("train.py", work) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("train.py: CUDA out of memory. Tried to allocate 2.00 GiB. train.accumulate=2 takes ")


@pytest.mark.gpu
def test_torchs_out_of_memory_message_is_recognised():
    with pytest.raises(torch.OutOfMemoryError, match=" Of the allocated memory"):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


@pytest.fixture
def bare_machine(monkeypatch):
    """Hide the compiler and Python's headers."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda *which: "/nowhere")


@pytest.mark.parametrize(
    "sections, setting",
    [({"runtime": {"compile": "on"}}, "runtime.compile: on"), ({"model": {"shift": "folded"}}, "model.shift: folded")],
)
def test_kernels_that_cannot_be_compiled_are_refused_before_anything_is_built(
    monkeypatch, bare_machine, sections, setting
):
    monkeypatch.setattr(host, "pick_device", lambda asked: "cuda")
    tiny.config(model={"backbone": "resnet50"})
    with pytest.raises(ConfigError, match=f"{setting} needs a C compiler .* and Python's headers"):
        tiny.config(**{"model": {"backbone": "resnet50"}} | sections)
