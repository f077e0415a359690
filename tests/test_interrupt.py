"""When training is asked to stop, and when it is not."""

import os
import signal

import pytest

from engine.interrupt import Interrupt


def test_a_signal_stops_training_at_the_next_step():
    with Interrupt() as interrupt:
        assert not interrupt.agreed(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.agreed(2)
    assert interrupt.reason == "SIGTERM"


@pytest.mark.parametrize("torchrun", [True, False])
def test_a_parent_that_ends_stops_training_only_where_it_is_torchrun(monkeypatch, torchrun):
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    else:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with Interrupt() as interrupt:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert interrupt.agreed(1) == torchrun
