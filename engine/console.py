"""Text for people: numbers of a log line, durations, names that are safe to print."""

from __future__ import annotations

from configs.progress import digits


def printable(text: str) -> str:
    """`text` without what a terminal or a page would obey or choke on: names are whatever somebody wrote."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(text: str) -> str:
    """`text` as a table's cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def train_line(
    *,
    epoch: str,
    step: str,
    loss: float,
    top1: float,
    lr: float,
    grad_norm: float,
    clips_per_s: float | None,
    data_fraction: float | None,
    memory: int,
    eta: float | None,
    bad: int,
) -> str:
    """One line of a log tick; `top1` and `data_fraction` are fractions, `memory` in bytes, `eta` in seconds."""
    waits = "" if clips_per_s is None else f" (data {100 * data_fraction:.0f} %)"
    return (
        f"ep {epoch} step {step} loss {loss:.3f} top1 {100 * top1:.1f} lr {lr:.4g} gn {grad_norm:.1f} | "
        f"{speed(clips_per_s)}{waits} mem {memory / 2**30:.1f} GiB | eta {duration(eta)} | bad {bad}"
    )


def speed(clips_per_s: float | None) -> str:
    """`1,874 clips/s`, `0.417 clips/s`; `warming up` where it is not known yet."""
    return "warming up" if clips_per_s is None else f"{digits(clips_per_s)} clips/s"


def duration(seconds: float | None) -> str:
    """`45s`, `3m20`, `2h11`, `4d05h`; `?` where it is not known yet."""
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days >= 2:
        return f"{days}d{hours_of_day:02}h"
    if hours:
        return f"{hours}h{minutes:02}"
    return f"{minutes}m{seconds:02}" if minutes else f"{seconds}s"
