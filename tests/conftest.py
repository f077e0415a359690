"""What all tests share: where reference data lies, and what a GPU test does on a machine without one."""

import os
from pathlib import Path

# isort: off
import engine  # noqa: F401  before torch, because it says how threads are to wait

# isort: on
import pytest
import torch

torch.set_num_threads(1)  # the tests' networks are too small to share out, and waiting threads spin

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """Folder of reference data and videos too large for the repository."""
    if not SHARED.is_dir():
        pytest.skip("the folder of large reference data is not here")
    return SHARED


def pytest_ignore_collect(collection_path):
    """With REQUIRE_GPU=1 read only files that have a GPU test: a machine lent for those may lack what others import."""
    if os.environ.get("REQUIRE_GPU") == "1" and collection_path.suffix == ".py":
        return "mark.gpu" not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(items):
    """Skip GPU tests where there is no GPU, unless REQUIRE_GPU=1 asks for them: then they fail."""
    if os.environ.get("REQUIRE_GPU") == "1":
        return
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
