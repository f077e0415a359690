"""Fixtures of all tests: the folder of large reference data, and GPU tests on machines without a GPU."""

import gc
import logging
import os
import signal
from contextlib import suppress

# isort: off
import engine  # noqa: F401  before torch, because it says how threads are to wait

# isort: on
import pytest
import rich
import torch

from dali_pipes.scan.processes import call_all, outcome
from dali_pipes.storage.faults import StorageFault
from engine import exits, logs
from tests.support.paths import ROOT

CONVERSION = "tools.data.conversion.convert"

with suppress(ImportError):  # a machine for GPU tests may lack hypothesis
    from hypothesis import HealthCheck, settings

    settings.register_profile("no time limits", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("no time limits")  # a busy machine is slow without a fault in the code

torch.set_num_threads(1)  # the tests' networks are too small for several threads, and waiting threads spin

CALLERS = [f"{module}.call_all" for module in ("dali_pipes.scan.build", "dali_pipes.scan.parts", CONVERSION)]
SHARED = ROOT.parent / "shared"
GPU = {"is_available": torch.cuda.is_available, "init": torch.cuda.init} if torch.cuda.is_available() else {}
VISIBLE = "CUDA_VISIBLE_DEVICES"  # also for programs that tests start
ASKED = os.environ.get(VISIBLE)


@pytest.fixture(scope="session")
def shared():
    """Return the folder of reference data and videos that are too large for the repository."""
    if not SHARED.is_dir():
        pytest.skip("the folder of large reference data is not here")
    return SHARED


def call_here(function, calls, count):
    """Do what `call_all` of `dali_pipes.scan.processes` does, without processes, which are slow to start."""
    for call in calls:
        found = outcome(function, call.arguments)
        if isinstance(found, StorageFault):
            raise found
        yield call.key, found


def _refuse():
    raise RuntimeError("No CUDA GPUs are available")


@pytest.fixture(scope="session", autouse=True)
def hide_gpu():
    """Hide the GPU from tests without the marker `gpu`, so that they give the same results on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        if GPU:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.cuda, "init", _refuse)
            patch.setenv(VISIBLE, "")
        yield


def keep_short(monkeypatch):
    """Leave out what takes seconds for each tiny network: the search of cuDNN, and timing the shift, which would also
    write rows into the cache of the user.
    """
    from engine import runtime

    prepare = runtime.prepare

    def prepare_without_search(*settings):
        device = prepare(*settings)
        torch.backends.cudnn.benchmark = False
        return device

    monkeypatch.setattr(runtime, "prepare", prepare_without_search)
    monkeypatch.setattr("engine.train.training.measure_missing", lambda *_: None)


@pytest.fixture(autouse=True)
def show_gpu_to_gpu_tests(request, monkeypatch, hide_gpu):
    if GPU and request.node.get_closest_marker("gpu"):
        for name, function in GPU.items():
            monkeypatch.setattr(torch.cuda, name, function)
        keep_short(monkeypatch)
        monkeypatch.delenv(VISIBLE) if ASKED is None else monkeypatch.setenv(VISIBLE, ASKED)


@pytest.fixture(scope="module", autouse=True)
def one_core(request):
    """Limit each test to one core: train in one thread, and read and convert videos without starting processes.

    Tests run in parallel, one for each core. Modules and tests marked `processes` start processes as users do.
    """
    torch.set_num_threads(1)  # an earlier module may have changed it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dali_pipes.device.cores_of_rank", lambda: 1)
        if not request.node.get_closest_marker("processes"):
            for name in CALLERS:
                patch.setattr(name, call_here)
        yield


@pytest.fixture(autouse=True)
def start_processes_if_marked(request, monkeypatch, one_core):
    if request.node.get_closest_marker("processes"):
        for name in CALLERS:
            monkeypatch.setattr(name, call_all)


@pytest.fixture(autouse=True)
def restore_signals():
    """Restore the handlers of SIGINT and SIGPIPE, which a program that a test calls sets to end its process."""
    before = {number: signal.getsignal(number) for number in exits.HANDLED}
    for number, handler in exits.HANDLED.items():
        signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def restore_scheduling():
    """Give back the real-time priority that SVT-AV1 takes for root's process: all others would wait for the tests."""
    yield
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def restore_logging():
    """Remove the log handlers that a program under test has added: their streams close with the test."""
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = [handler for handler in logging.root.handlers if handler in handlers]
    rich.reconfigure()


@pytest.fixture(autouse=True)
def no_lines_about_long_waits(monkeypatch):
    """Suppress the log lines about long waits: tests compare what programs print, and a busy machine waits for long."""
    monkeypatch.setattr(logs, "SILENCE", 1e6)


def pytest_ignore_collect(collection_path):
    """Collect only files with a GPU test if REQUIRE_GPU=1: a machine for these may lack the imports of other files."""
    if os.environ.get("REQUIRE_GPU") == "1" and collection_path.suffix == ".py":
        return "mark.gpu" not in collection_path.read_text() or None
    return None


def pytest_collection_finish():
    """Exclude all imported objects from garbage collection, which would visit them again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Skip GPU tests on machines without a GPU, unless REQUIRE_GPU=1: then they fail."""
    if os.environ.get("REQUIRE_GPU") == "1":
        return
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not GPU:
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
