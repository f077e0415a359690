"""The log line of training, and durations as people read them."""

import pytest

from engine import console

NUMBERS = {"loss": 2.1128, "top1": 0.512, "lr": 0.02, "grad_norm": 3.14, "memory": 1.1 * 2**30, "bad": 3}


def test_a_tick_is_one_line():
    line = console.train_line(
        epoch="3/50", step="1240/7512", clips_per_s=1874.3, data_fraction=0.042, eta=7860, **NUMBERS
    )
    assert line == (
        "ep 3/50 step 1240/7512 loss 2.113 top1 51.2 lr 0.02 gn 3.1 | "
        "1,874 clips/s (data 4 %) mem 1.1 GiB | eta 2h11 | bad 3"
    )


def test_the_first_tick_knows_no_speed_yet():
    line = console.train_line(epoch="1/2", step="2/9", clips_per_s=None, data_fraction=None, eta=None, **NUMBERS)
    assert line.endswith("| warming up mem 1.1 GiB | eta ? | bad 3")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00"), (200, "3m20"), (3600, "1h00"), (172799, "47h59"), (172800, "2d00h")],
)
def test_durations_have_at_most_two_units(seconds, text):
    assert console.duration(seconds) == text


@pytest.mark.parametrize(
    ("speed", "text"),
    [(0.0123, "0.0123"), (0.4, "0.4"), (6.247, "6.25"), (99.94, "99.9"), (99.96, "100"), (1874.4, "1,874")],
)
def test_a_speed_has_three_significant_digits_and_is_never_rounded_to_zero(speed, text):
    line = console.train_line(epoch="1/2", step="3/4", clips_per_s=speed, data_fraction=0.0, eta=1.0, **NUMBERS)
    assert f"| {text} clips/s (data 0 %)" in line
