"""Programs that end early: by Ctrl-C at any time, or because the reader of their output is gone; and other ends."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import exits, logs, program
from tests.support.paths import PROGRAMS, ROOT
from tools import prepare

INTERRUPT_IMPORTS = """
import runpy, signal, sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "configs":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, CtrlC())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", [*PROGRAMS, "tools/prepare"])
def test_ctrl_c_during_imports_ends_a_program_silently(name):
    command = [sys.executable, "-c", INTERRUPT_IMPORTS, f"{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_during_the_work_prints_one_line(capfd):
    exits.exit_quietly_until_started()
    assert program.run("train.py", lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert capfd.readouterr().err == "train.py: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # only the interpreter's shutdown is left


def test_ctrl_c_ends_a_command_of_prepare_with_a_line(monkeypatch, capfd):
    monkeypatch.setattr("tools.data.stats.run", lambda arguments: signal.raise_signal(signal.SIGINT))
    assert prepare.main(["stats", "a.list"]) == 130
    assert capfd.readouterr().err == "prepare.py stats: interrupted\n"


def test_a_program_started_with_sigint_ignored_keeps_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exits.exit_quietly_until_started()
    assert program.run("train.py", lambda: signal.raise_signal(signal.SIGINT)) == 0


@pytest.fixture
def unread():
    """Yield the writing end of a pipe whose reading end is closed."""
    theirs, ours = os.pipe()
    os.close(theirs)
    yield ours
    os.close(ours)


@pytest.mark.parametrize("command", ["eval.py --help", "train.py -c demo --print-config", "tools/prepare.py --help"])
def test_a_program_with_a_closed_output_pipe_ends_silently(unread, command):
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, stdout=unread, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("to_stderr", [False, True])
def test_work_with_a_closed_output_pipe_ends_silently(unread, to_stderr):
    script = f"""
import sys
from engine import exits
out = sys.stderr if {to_stderr} else sys.stdout
sys.exit(exits.run_to_exit_code("predict.py", lambda: print("an answer", file=out)))
"""
    streams = (
        {"stdout": subprocess.PIPE, "stderr": unread} if to_stderr else {"stdout": unread, "stderr": subprocess.PIPE}
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, **streams)
    assert done.returncode == exits.UNREAD and not done.stdout and not done.stderr


def test_a_full_disk_ends_a_program_with_a_line(monkeypatch, capfd):
    assert exits.run_to_exit_code("x.py", lambda: Path("/dev/full").write_text("x")) == 2
    monkeypatch.setattr("tools.data.stats.run", lambda arguments: Path("/proc/new").mkdir())
    assert prepare.main(["stats", "a.list"]) == 2
    no_place = "prepare.py stats: /proc/new: No such file or directory"
    assert capfd.readouterr().err == f"x.py: No space left on device; make room and start again\n{no_place}\n"


def test_a_broken_pipe_other_than_the_output_is_raised(unread, capfd):
    with pytest.raises(BrokenPipeError):
        exits.run_to_exit_code("x.py", lambda: os.write(unread, b"to a process that has died"))


def test_training_continues_after_its_output_pipe_is_closed(unread, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(unread), "w"))
    logs.start_logging(sys.stdout)
    with logs.copied_to(tmp_path / "log.txt"):
        for line in ("one", "two"):
            logging.getLogger("engine.train").info(line)
    sys.stdout.flush()  # as at the end of a program
    assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]


def test_closed_standard_streams_are_replaced_and_no_file_gets_their_output(tmp_path):
    script = """
from engine import exits
exits.exit_quietly_until_started()
import faulthandler, os, signal, sys
def work():
    faulthandler.register(signal.SIGUSR2)
    with open(sys.argv[1], "w") as file:
        print("an answer")
        print(sys.stdin.read(), file=sys.stderr)
        os.write(2, b"a message of a library")
        file.write("content")
    return 0
sys.exit(exits.run_to_exit_code("x.py", work))
"""
    written = tmp_path / "written.txt"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, str(written)]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    assert written.read_text() == "content"


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("flags", [[], ["-X", "utf8=0"]], ids=["restarted", "overridden"])
def test_a_program_in_a_locale_without_utf8_restarts_once_with_its_arguments(flags):
    script = """
from engine import exits
exits.exit_quietly_until_started()
import os, sys
print(os.getpid(), sys.getfilesystemencoding(), ascii(sys.argv[1:]))
"""
    command = [sys.executable, *flags, "-c", script, "--name", "caf\u00e9 and \udcff"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | ASCII, stdout=subprocess.PIPE, text=True) as started:
        answer = started.communicate()[0]
    seen = r"'caf\xe9 and \udcff'" if not flags else r"'caf\udcc3\udca9 and \udcff'"
    assert (started.returncode, answer) == (0, f"{started.pid} {'ascii' if flags else 'utf-8'} ['--name', {seen}]\n")


def test_folders_name_classes_in_utf8_whatever_the_locale(tmp_path):
    for name in ("b", "caf\u00e9"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "set" / name / f"{number}.mp4").write_bytes(b"not looked at")
    command = [sys.executable, "tools/prepare.py", "split", tmp_path / "set", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, env=os.environ | ASCII, check=True, capture_output=True)
    assert (tmp_path / "classes.txt").read_bytes() == "b\ncaf\u00e9\n".encode()


def test_exit_now_flushes_output_and_waits_for_no_thread_or_exit_handler():
    script = """
import atexit, sys, threading, time
from engine import exits
atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()
print("done", end="")
print("a line", end="", file=sys.stderr)
exits.exit_now(3)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done", "a line")
