"""One run of the probe: where it writes, how long it may take, and how a case is asked and its answer recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import in_turns, isolated
from benchmarks.nvdec.scale import Scale
from benchmarks.recorder import Recorder
from dali_pipes.workers import Call, Failure

PATIENCE = 75  # seconds that one case may take: the first in a process also loads the libraries


class Probe:
    """What every section is given. `folder` keeps the videos, `section_end` says when a section has to be done."""

    def __init__(self, scale: Scale, folder: Path, recorder: Recorder, seconds: float, only: list[str]):
        self.scale = scale
        self.folder = folder
        self.recorder = recorder
        self.section_end = time.monotonic() + seconds
        self._only = only

    @property
    def left(self) -> float:
        """Seconds that the section still has."""
        return max(0.0, self.section_end - time.monotonic())

    def wanted(self, cases: dict[str, tuple]) -> dict[str, tuple]:
        """Of cases by name those that this run is about: all, or those that contain a word of `--only`."""
        return {name: value for name, value in cases.items() if not self._only or any(w in name for w in self._only)}

    def ask(self, cases: dict[str, tuple]) -> dict[str, dict]:
        """The answer to each case, a function that returns what to record and its arguments; recorded as they come."""
        cases, answers, asked = self.wanted(cases), {}, set()

        def calls() -> Iterator[Call]:
            for name, call in cases.items():
                if self.left:
                    asked.add(name)
                    yield Call(name, call, PATIENCE)

        for name, answer in isolated(calls()):
            if isinstance(answer, Failure):
                self.failed(name, answer.reason)
            else:
                answers[name] = answer
                self.recorder.add(name, **answer)
        for name in cases:
            if name not in asked:
                self.skipped(name)
        return answers

    def compete(self, groups: list[dict[str, tuple]], summarise: Callable[[list[dict]], dict]) -> dict[str, dict]:
        """The summary of each case's answers, asked again and again while there is time, in turns within a group."""
        summaries = {}
        wanted = [cases for cases in map(self.wanted, groups) if cases]
        for group in in_turns(wanted, seconds=self.left, most=self.scale.rounds, patience=PATIENCE):
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
        """Record that a case was not asked."""
        self.recorder.add(case, skipped="no time was left")

    def failed(self, case: str, reason: str) -> None:
        """Record that a case failed, why, and how to see it again alone."""
        command = f"python benchmarks/probe_nvdec.py --device {self.scale.device} --only {case}"
        self.recorder.add(case, error=reason, reproduce=command)
