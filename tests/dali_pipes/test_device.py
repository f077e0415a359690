"""Device, precision and cores of a process."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from configs import ConfigError
from dali_pipes import device as host
from dali_pipes.batch import KeepAlive
from dali_pipes.device import cores_of_rank
from tests.support.paths import ROOT

TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update it."
NONE_HERE = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."


def without_gpu(monkeypatch, reason):
    """Let torch see no GPU for this reason."""

    def refuse():
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", refuse)


def test_a_machine_without_a_gpu_computes_on_its_cpu(monkeypatch):
    without_gpu(monkeypatch, NONE_HERE)
    assert host.pick_device("auto") == "cpu"
    with pytest.raises(ConfigError, match=r"runtime\.device: cuda, .* \(Found no NVIDIA driver"):
        host.pick_device("cuda")


def test_a_gpu_that_torch_cannot_use_is_an_error_and_does_not_train_on_the_cpu(monkeypatch):
    without_gpu(monkeypatch, TOO_OLD)
    with pytest.raises(ConfigError, match=r"there is a GPU, and .* \(.*driver on your system is too old.*\); fix that"):
        host.pick_device("auto")
    assert host.pick_device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torchs_message_for_a_missing_gpu_is_recognised():
    assert host._why_no_gpu().startswith(host._NO_GPU)


@pytest.mark.parametrize(
    ("device", "flags", "precision"),
    [
        ("cuda", "", "fp16"),
        ("cpu", "avx2 avx512f", "fp32"),
        ("cpu", "avx512f avx512_bf16", "bf16"),
        ("cpu", "amx_bf16 amx_tile", "bf16"),
    ],
)
def test_auto_precision_is_the_fastest_that_the_device_supports(monkeypatch, device, flags, precision):
    monkeypatch.setattr(host, "_cpu_flags", lambda: set(flags.split()))
    assert host.pick_precision(device) == precision


def test_cpu_flags_of_this_processor_are_read():
    assert "fpu" in host._cpu_flags()


@pytest.mark.parametrize(("cores", "ranks", "share"), [(8, None, 8), (8, "2", 4), (7, "2", 3), (2, "4", 1)])
def test_ranks_of_a_host_share_its_cores_and_each_has_one_at_least(monkeypatch, cores, ranks, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(host, "cpu_quota", lambda: math.inf)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if ranks:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert cores_of_rank() == share


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/not/here\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("2:memory:/\n", {"cpu.max": "100000 100000\n"}, math.inf),
    ],
)
def test_the_quota_of_control_groups_is_read(tmp_path, groups, files, quota):
    (tmp_path / "groups").write_text(groups)
    for name, content in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(content)
    assert host.cpu_quota(tmp_path / "root", tmp_path / "groups") == quota


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 8), (2.5, 3), (0.2, 1), (16.0, 8)])
def test_a_quota_limits_the_cores_that_are_used(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(host, "cpu_quota", lambda: quota)
    assert host.usable_cores() == cores


@pytest.mark.parametrize(
    ("device", "precision", "dtype"),
    [
        ("cpu", "fp32", torch.float32),
        ("cpu", "bf16", torch.float32),
        ("cpu", "fp16", torch.float16),
        ("cuda", "fp32", torch.float32),
        ("cuda", "bf16", torch.float16),
        ("cuda", "fp16", torch.float16),
    ],
)
def test_clips_are_half_precision_where_the_network_is_and_a_gpu_computes(device, precision, dtype):
    assert host.clip_dtype(precision, torch.device(device)) == dtype


@pytest.mark.gpu
def test_memory_of_others_is_held_until_the_gpu_has_read_it():
    in_use = KeepAlive(torch.device("cuda"))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        in_use.hold(torch.ones(1, device="cuda"))  # the first use of an operation loads it, which may wait
        torch.cuda._sleep(1)
        stream.synchronize()
        torch.cuda._sleep(200_000_000)  # cycles: a tenth of a second
        in_use.hold(torch.ones(1, device="cuda"))
        in_use.hold(torch.ones(1, device="cuda"))
        assert len(in_use._held) == 2  # the earlier one is released
        stream.synchronize()
        in_use.hold(torch.ones(1, device="cuda"))
        assert len(in_use._held) <= 1


def test_threads_that_compute_sleep_while_they_wait():
    program = "import engine, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    asked = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert asked.stdout.split() == ["PASSIVE", "False"]


def test_a_pool_thread_set_to_one_torch_thread_keeps_it_and_changes_no_other_thread():
    """torch applies set_num_threads in each thread when the thread first computes."""

    def threads_after_computing() -> int:
        torch.ones(1 << 20).add_(1)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1, initializer=host.use_one_torch_thread) as alone, ThreadPoolExecutor(1) as other:
            assert alone.submit(threads_after_computing).result() == 1
            assert other.submit(threads_after_computing).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
