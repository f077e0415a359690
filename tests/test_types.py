"""The types of the public interfaces hold, as `make types` checks them."""

import subprocess
import sys

from tests.support.paths import ROOT


def test_the_types_of_the_public_interfaces_hold(tmp_path):
    checked = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", tmp_path], cwd=ROOT, capture_output=True)
    assert checked.returncode == 0, checked.stdout.decode()
