"""Format text for people: numbers of a log line, durations, names that are safe to print."""

from __future__ import annotations

from configs.progress import format_rate


def printable(text: str) -> str:
    """Return `text` without control characters, which could harm a terminal or page: names may contain anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(text: str) -> str:
    """Return `text` as a table's cell that spreadsheets do not interpret as a formula."""
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
    """Return the log line of training; `top1` and `data_fraction` are fractions, `memory` in bytes, `eta` in
    seconds.
    """
    waits = "" if clips_per_s is None else f" (data {100 * data_fraction:.0f} %)"
    return (
        f"ep {epoch} step {step} loss {loss:.3f} top1 {100 * top1:.1f} lr {lr:.4g} gn {grad_norm:.1f} | "
        f"{speed(clips_per_s)}{waits} mem {memory / 2**30:.1f} GiB | eta {duration(eta)} | bad {bad}"
    )


def speed(clips_per_s: float | None) -> str:
    """Format `1,874 clips/s`, `0.417 clips/s`; `warming up` if it is unknown yet."""
    return "warming up" if clips_per_s is None else f"{format_rate(clips_per_s)} clips/s"


def duration(seconds: float | None) -> str:
    """Format `45s`, `3m20`, `2h11`, `4d05h`; `?` if it is unknown yet."""
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
