"""train.py --profile: a trace and a table of the largest costs; --dry-run: a temporary run, and its disk space."""

import json
from types import SimpleNamespace

import pytest

from configs import ConfigError
from engine import distributed
from engine.train import dry_run, profile
from engine.train.clock import Times
from tests.support import tiny


def test_a_profile_writes_a_trace_and_a_table_and_no_other_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    settings = tiny.config(data={"max_bad_fraction": 1.0})
    profile.profile_steps(settings, None, tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert any("conv" in event.get("name", "") for event in trace["traceEvents"])
    assert "ms a step" in caplog.text and "% of them waiting for data" in caplog.text
    table = caplog.messages[caplog.messages.index(f"{'share':>7} {'ms a step':>10} {'calls a step':>13}  operation") :]
    shares = [float(line.split("%")[0]) for line in table[1 : 1 + profile.LARGEST]]
    assert len(shares) == profile.LARGEST and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["trace.json"]


def test_an_existing_trace_is_refused_before_profiling(tmp_path):
    (tmp_path / "trace.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"trace\.json: "):
        profile.profile_steps(tiny.config(), None, tmp_path / "trace.json")


def test_on_a_gpu_the_time_of_its_kernels_counts():
    operation = {"count": 10, "self_cpu_time_total": 1.0}
    kernels = [
        SimpleNamespace(key="launch", self_device_time_total=0.0, **operation),
        SimpleNamespace(key="gemm", self_device_time_total=3000.0, **operation),
        SimpleNamespace(key="shift", self_device_time_total=1000.0, **operation),
    ]
    title, _, *rows = profile.largest_costs(kernels, Times(data=1, step=3, steps=5, clips=20), "cuda")
    assert title == "800.0 ms a step, 25 % of them waiting for data; the largest costs on the cuda:"
    assert [row.split() for row in rows[:2]] == [["75.0%", "0.60", "2.0", "gemm"], ["25.0%", "0.20", "2.0", "shift"]]


def test_a_temporary_run_is_watched_with_the_timeout_of_the_run():
    with dry_run.trial(tiny.config(runtime={"timeout": 700.0}), None):
        assert distributed.common_watch().limit == 700


@pytest.mark.parametrize(
    ("epochs", "every", "minutes", "most"), [(2, 1, 0, 2), (9, 1, 0, 3), (9, 5, 0, 2), (2, 1, 10.0, 3)]
)
def test_the_disk_space_covers_checkpoints_within_epochs(epochs, every, minutes, most):
    settings = {"epochs": epochs, "checkpoint_every": every, "checkpoint_minutes": minutes, "keep": 3}
    assert dry_run.most_checkpoints(tiny.config(train=settings).train) == most
