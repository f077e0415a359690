"""One run of a probe: its scale, its time limits, and the cases that it runs and records."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import alternate, isolated
from benchmarks.harness.record import Recorder
from dali_pipes.scan.processes import Call, Failure

PATIENCE = 75  # time limit of a case in seconds; the first in a process also loads the libraries


class Probe:
    """The context of every section. `folder` holds the input of cases, `section_end` is the section's deadline.

    `scale` has the sizes of all cases, among them `rounds`, the maximum of repeats. `command` runs the probe at that
    scale; with `--only` and a case name it runs that case alone.
    """

    def __init__(
        self, scale: Any, folder: Path, recorder: Recorder, only: list[str], command: str, patience: float = PATIENCE
    ):
        self.scale = scale
        self.folder = folder
        self.recorder = recorder
        self.section_end = time.monotonic()
        self.end = math.inf  # deadline of the whole run: no case exceeds it
        self._only = only
        self._command = command
        self._patience = patience

    @property
    def left(self) -> float:
        """Return the seconds left for the section."""
        return max(0.0, self.section_end - time.monotonic())

    def patience(self) -> float:
        """Return the time limit of the next case in seconds; after it, the case counts as hung."""
        return max(1.0, min(self._patience, self.end - time.monotonic()))

    def wanted(self, cases: dict[str, tuple]) -> dict[str, tuple]:
        """Select the cases of this run by name: all, or those that contain a word of `--only`."""
        return {name: value for name, value in cases.items() if not self._only or any(w in name for w in self._only)}

    def run(self, cases: dict[str, tuple]) -> dict[str, dict]:
        """Run cases, each a function with its arguments that returns a record; record and return the results."""
        cases, answers, begun = self.wanted(cases), {}, set()

        def calls() -> Iterator[Call]:
            for name, call in cases.items():
                if self.left:
                    begun.add(name)
                    yield Call(name, call, self.patience())

        for name, answer in isolated(calls()):
            if isinstance(answer, Failure):
                self.failed(name, answer.reason)
            else:
                answers[name] = answer
                self.recorder.add(name, **answer)
        for name in cases:
            if name not in begun:
                self.skipped(name)
        return answers

    def run_alternately(
        self, groups: list[dict[str, tuple]], summarise: Callable[[list[dict]], dict]
    ) -> dict[str, dict]:
        """Run the cases of each group alternately while time is left; record and return a summary of each."""
        summaries = {}
        wanted = [cases for cases in map(self.wanted, groups) if cases]
        for group in alternate(wanted, seconds=self.left, most=self.scale.rounds, patience=self.patience):
            for name, answers in group.items():
                if isinstance(answers, Failure):
                    self.failed(name, answers.reason)
                elif answers:
                    summaries[name] = summarise(answers)
                    self.recorder.add(name, **summaries[name])
                else:
                    self.skipped(name)
        return summaries

    def skipped(self, case: str) -> None:
        """Record that a case did not run."""
        self.recorder.add(case, skipped="no time was left")

    def failed(self, case: str, reason: str) -> None:
        """Record why a case failed, and the command that repeats it alone."""
        self.recorder.add(case, error=reason, reproduce=f"{self._command} --only {case}")


def run_sections(probe: Probe, package: str, sections: dict[str, float], seconds: float, began: float) -> None:
    """Run the sections, modules of `package`; each must end within its share of `seconds`, counted from `began`.

    That is when the program began: importing the libraries takes seconds, too. A section that fails is recorded, and
    the others continue.
    """
    probe.end = began + seconds
    for name, share in sections.items():
        probe.section_end = began + share * seconds
        started = time.monotonic()
        try:
            import_module(f"{package}.{name}").run_section(probe)
        except Exception as error:
            probe.failed(name, f"{type(error).__name__}: {error}")
        probe.recorder.add(f"{name}/done", seconds=time.monotonic() - started)
