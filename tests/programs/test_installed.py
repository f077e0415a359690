"""The commands that `pip install` makes."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.slow
def test_installed_commands_run_outside_of_the_checkout(tmp_path):
    """A copy is built, so that nothing is written to the checkout."""
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if name.endswith((".py", ".yaml", ".toml", ".jsonl")) and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    commands = sorted(path.name for path in (site / "bin").iterdir())
    assert {"tsm-train", "tsm-eval", "tsm-prepare", "tsm-predict", "tsm-export"} <= set(commands)
    for command in commands:
        ran = subprocess.run(
            [sys.executable, str(site / "bin" / command), "--help"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0 and "usage: " in ran.stdout, (command, ran.stderr)
