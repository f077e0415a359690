"""The arithmetic of the folded shift's kernels in Triton's interpreter, in a separate process."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_kernels_compute_what_they_should_in_tritons_interpreter(which):
    tests = ROOT / "tests/support/oracles/interpreted_fold.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tests), "-m", which, "--tb=short"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
