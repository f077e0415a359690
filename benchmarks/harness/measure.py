"""Run cases in separate processes, repeated alternately. This module does not know what is measured."""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dali_pipes.scan.processes import Call, Failure, call_all


@dataclass(frozen=True)
class GpuLost(Failure):
    """A case failed so that its process cannot use the GPU any more."""


def isolated(calls: Iterable[Call]) -> Iterator[tuple[Any, Any]]:
    """Make calls one after the other in another process; yield (key, result or Failure) of each.

    A case that crashes, hangs or loses the GPU affects no other: those after it run in a new process. None is repeated,
    as files are whose process reached its time limit: the case has had its time.
    """
    calls, unanswered = iter(calls), deque()

    def to_ask() -> Iterator[Call]:
        yield from list(unanswered)  # ran in the process that lost the GPU
        for call in calls:
            unanswered.append(call._replace(is_second=True))
            yield unanswered[-1]

    lost = True
    while lost:
        lost = False
        with closing(call_all(_attempt, to_ask(), 1)) as answers:
            for key, answer in answers:
                unanswered.popleft()
                yield key, answer
                if lost := isinstance(answer, GpuLost):
                    break


def _attempt(function: Callable, *arguments: Any) -> Any:
    """Return the function's result, or its Failure."""
    try:
        return function(*arguments)
    except Exception as error:
        reason = str(error) or type(error).__name__
        return Failure(reason) if _gpu_is_usable() else GpuLost(reason)


def _gpu_is_usable() -> bool:
    """Return True if this process can still use the GPU, or never did."""
    torch = sys.modules.get("torch")  # all users of the GPU have loaded torch
    try:
        if torch and torch.cuda.is_available():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def alternate(
    groups: list[dict[str, tuple]], *, seconds: float, most: int, patience: Callable[[], float]
) -> Iterator[dict[str, list | Failure]]:
    """Yield the results of up to `most` calls of each case, group by group as they finish.

    A case is a function and its arguments. The cases of a group are called alternately, so that drift affects all
    alike; a case that fails is dropped. Groups share `seconds` evenly, but every case is called once while any time is
    left. `patience` is the time limit of the next call. Case names must be unique.
    """
    answers: dict[str, list | Failure] = {name: [] for cases in groups for name in cases}
    end = time.monotonic() + seconds

    def calls() -> Iterator[Call]:
        for done, cases in enumerate(groups):
            now = time.monotonic()
            stop = now + (end - now) / (len(groups) - done)
            for turn in range(most):
                for name in rotated(list(cases), turn):
                    if time.monotonic() < (stop if turn else end) and not isinstance(answers[name], Failure):
                        yield Call(name, cases[name], patience())

    waiting = deque(groups)
    for name, answer in isolated(calls()):
        while name not in waiting[0]:
            yield {done: answers[done] for done in waiting.popleft()}
        if isinstance(answer, Failure):
            answers[name] = answer
        elif isinstance(answers[name], list):
            answers[name].append(answer)
    for cases in waiting:
        yield {done: answers[done] for done in cases}


def rotated(items: list, by: int) -> list:
    """Return `items` from index `by` on, followed by those before it."""
    by %= len(items) or 1
    return items[by:] + items[:by]


def summary(answers: list[dict], name: str) -> dict:
    """Return the median and the quartiles of a number over the repeats of a case."""
    median, quartiles = spread([answer[name] for answer in answers])
    return {name: median, f"{name}_iqr": quartiles, "repeats": len(answers)}


def spread(values: list[float]) -> tuple[float, list[float]]:
    """Return the median, and the lower and upper quartile."""
    if len(values) < 2:
        return values[0], [values[0]] * 2
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return median, [lower, upper]
