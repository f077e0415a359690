"""Flags of the programs that contradict each other, or make no sense: answered in a line, before any work is done."""

import importlib
import shlex
import sys

import pytest


def said(monkeypatch, capsys, command):
    """What a command line is answered with; it must leave with code 2."""
    program, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [program, *words])
    with pytest.raises(SystemExit) as leaving:
        importlib.import_module(program.removesuffix(".py").replace("/", ".")).arguments()
    assert leaving.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("train.py -c demo --resume --fresh", "train.py: argument --fresh: not allowed with argument --resume"),
        ("eval.py -c demo --crops three --tencrop", "eval.py: argument --tencrop: not allowed with argument --crops"),
        (
            "tools/scores.py a.npz b.npz --weights 1,x",
            "scores.py: argument --weights: 1,x: expected a number for each file, with commas between, as in 1,1.5",
        ),
        ("tools/scores.py a.npz --weights=-1", "scores.py: argument --weights: -1: a weight must be above 0"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_answered_in_a_line(monkeypatch, capsys, command, answer):
    assert said(monkeypatch, capsys, command) == answer + "\n"
