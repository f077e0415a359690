"""Command-line arguments that programs with a recipe share: `--config RECIPE`, overrides, `--print-config`."""

from __future__ import annotations

import argparse
import errno
import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NoReturn

from configs.checks import ConfigError
from configs.load import load, overridden
from configs.read import KINDS, SECTIONS, did_you_mean, example, likely
from configs.reference import reference
from configs.schema import Config
from configs.sections.model import ZOO
from configs.show import describe

_SETTING = "settings are written without a flag, as in optim.lr=0.01; export.py writes to --out FILE"
_SOURCE = "name videos or folders without a flag"
_NETWORK = "name the network by --weights FILE"
_BATCH = "write train.batch=CLIPS, or eval.batch=VIDEOS in evaluation and prediction"
_RUN = "write train.runs=FOLDER train.name=NAME for the run's folder FOLDER/NAME"
FOREIGN_FLAGS = {  # flag of PaddleVideo's and mmaction2's programs: what to write here instead
    "-o": _SETTING,
    "--override": _SETTING,
    "--cfg-options": _SETTING,
    "--test": "to test, run eval.py --config RECIPE --weights FILE",
    "-i": _SOURCE,
    "--input_file": _SOURCE,
    "--video_file": _SOURCE,
    "-p": _NETWORK,
    "--pretrained_params": _NETWORK,
    "--model_file": _NETWORK,
    "--params_file": _NETWORK,
    "--output_path": "name the file to write by --out FILE",
    "-b": _BATCH,
    "--batch_size": _BATCH,
    "--gpus": "start one process a GPU: torchrun --nproc-per-node GPUS train.py ...",
    "--use_gpu": "write runtime.device=cuda or runtime.device=cpu",
    "--use_tensorrt": "export by --format tensorrt, or write runtime.onnx_provider=tensorrt",
    "--amp_level": "write runtime.precision=fp16 or runtime.precision=bf16",
    "--work-dir": _RUN,
    "--work_dir": _RUN,
    "--train_dali": "not needed: DALI and its alternatives are chosen by data.decoder",
}


def _without_flags_after_dashes(words: Sequence[str]) -> list[str]:
    """Return words without `--`, after which all words are file names: argparse ignores `--` if flags may come last."""
    flags, names = list(words), []
    if "--" in flags:
        flags, names = flags[: flags.index("--")], flags[flags.index("--") + 1 :]
    return [*flags, *(f"./{name}" if name.startswith("-") and len(name) > 1 else name for name in names)]


class Parser(argparse.ArgumentParser):
    """An argument parser that accepts flags and overrides in any order and reports errors in one line."""

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("usage", f"{kwargs['prog']} [options] ...")  # the options are listed below it
        form = kwargs.pop("formatter_class", argparse.HelpFormatter)
        super().__init__(allow_abbrev=False, formatter_class=partial(form, max_help_position=32), **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):  # type: ignore[override]
        """Parse the arguments; exit with code 2 and a suggestion at an unknown flag.

        Flags of other projects are checked first: they often replace a required flag of ours.
        """
        try:
            os.getcwd()
        except OSError:
            self.error("the current folder does not exist any more; change to one that does")
        words = _without_flags_after_dashes(sys.argv[1:] if args is None else args)
        words = _resume_after_settings(words)
        self._refuse(word for word in words if word.partition("=")[0] in FOREIGN_FLAGS)
        parsed, unknown = self.parse_known_intermixed_args(words, namespace)
        self._refuse(unknown)
        return parsed

    def _refuse(self, words: Iterable[str]) -> None:
        """Exit with code 2 at the first word with a flag that this program does not have."""
        flags = (word.partition("=")[0] for word in words)
        flag = next((flag for flag in flags if flag not in self._option_string_actions), None)
        if flag is not None:
            self.error(f"{flag}: no such flag{self._hint(flag)}")

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line, without the usage text, which would hide it."""
        self.exit(2, f"{self.prog}: {message}\n")

    def _hint(self, flag: str) -> str:
        """Suggest the intended flag or setting; `--lr` and `--train.epochs` are settings, which have no dashes."""
        if flag in FOREIGN_FLAGS:
            return f"; {FOREIGN_FLAGS[flag]}"
        key = flag.lstrip("-")
        settings = [key] if key in KINDS else [example(key)] if key in SECTIONS else likely(key)
        flags = get_close_matches(flag, self._option_string_actions, 1)
        if not flags or key in SECTIONS or any(setting.endswith(key) for setting in settings):
            return did_you_mean(f"{setting}=VALUE" for setting in settings)
        return did_you_mean(flags)


class _Reference(argparse.Action):
    """An argparse action that prints the description of settings and exits."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        try:
            print(reference(values or ""))
        except ConfigError as error:
            parser.error(str(error))
        parser.exit()


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` (`-c`), `--print-config` and the trailing `section.key=value` overrides."""
    parser.add_argument(
        "--config", "-c", metavar="RECIPE", help="a YAML file, a run's folder, or a name (docs/recipes.md lists them)"
    )
    parser.add_argument(
        "--help-config", nargs="?", action=_Reference, metavar="SECTION", help="describe all settings, or a section's"
    )
    parser.add_argument("--print-config", action="store_true", help="print every setting (* if not default) and exit")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace the recipe's")


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the outputs of `engine.evaluation.results`."""
    parser.add_argument("--force", action="store_true", help="overwrite files that this project did not write")
    parser.add_argument(
        "--json", type=text_output, metavar="FILE", help="write totals and counts per class (-: stdout)"
    )
    parser.add_argument("--per-class", action="store_true", help="print classes, worst first, and confused pairs")
    parser.add_argument(
        "--confusion",
        type=confusion_file,
        metavar="FILE.csv|FILE.png",
        help="write the confusion matrix",
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number of at least `least`."""

    def whole_number(text: str) -> int:
        with suppress(ValueError):
            if int(text) >= least:
                return int(text)
            raise argparse.ArgumentTypeError(f"{text} is too small; the smallest allowed is {least}")
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")

    return whole_number


def confusion_file(text: str) -> Path:
    """Check an argument that names a table or a picture to write."""
    if Path(text).suffix not in (".csv", ".png"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .csv or .png")
    return output_file(text)


STDOUT = 1
_OPEN_FILE = re.compile(r"/dev/std(in|out|err)|(?:/dev/fd|/proc/self/fd)/([0-9]{1,9})")


def descriptor(path: Path) -> int | None:
    """Return the number of the open file of this process that a path names, such as 1 for /dev/stdout, or None."""
    found = _OPEN_FILE.fullmatch(os.path.abspath(path))
    return None if not found else int(found[2] or ("in", "out", "err").index(found[1]))


def is_stream(path: Path) -> bool:
    """Return True if a path is written as a stream: a device, a pipe, or an open file of this process."""
    with suppress(OSError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or descriptor(path) is not None
    return False


def text_output(text: str) -> Path:
    """Check an argument that names a file for text; `-` is the standard output."""
    return output_file("/dev/stdout" if text == "-" else text)


def output_file(text: str) -> Path:
    """Check an argument that names a file to write, before any work is done."""
    path = Path(text)
    if is_stream(path):
        return path  # its folder need not be writable
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; create it, or name another file")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # a read-only disk does not show in permissions
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written ({error.strerror}); name another file") from None
    return path


def array_file(text: str) -> Path:
    """Check an argument that names a file for arrays: without its ending, numpy would read back something else."""
    if not text.endswith(".npz"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .npz")
    return output_file(text)


def is_setting(word: str) -> bool:
    """Return True if a word of a command line is `section.key=value`, not a path."""
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key and not os.path.lexists(word)


def take_network(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str | None:
    """Return the network of the command line, given as a word or by --weights; only settings remain in
    args.overrides.
    """
    words = [word for word in args.overrides if not is_setting(word)]
    args.overrides = list(filter(is_setting, args.overrides))
    networks = words + ([args.weights] if args.weights else [])
    if len(networks) > 1:
        parser.error(f"{', '.join(networks)}: name one network")
    return networks[0] if networks else None


def refuse_missing_network(name: str | Path) -> None:
    """Raise ConfigError if a network is neither a file nor a folder. Those of the zoo are downloaded when needed."""
    path = Path(name)
    if not str(name).startswith(ZOO) and not path.exists():
        near = Path(Config().train.runs, path)
        advice = f"did you mean {near}?" if near.exists() else "check the path"
        raise ConfigError(f"{path}: there is neither a run nor a file of weights with this name; {advice}")


def names_run(words: Sequence[str], place: int) -> bool:
    """Return True if the word at this place of a command line is a `--resume` that is followed by the name of a run."""
    following = words[place + 1 : place + 2]
    return words[place] == "--resume" and any(not word.startswith("-") and not is_setting(word) for word in following)


def _resume_after_settings(words: Sequence[str]) -> list[str]:
    """Move `--resume` behind the settings that follow it: `--resume train.epochs=9` names no run, and among several
    values of a setting, the last one counts.
    """
    ordered = list(words)
    for place, following in enumerate(ordered[1:]):
        if ordered[place] == "--resume" and is_setting(following):
            ordered[place : place + 2] = following, "--resume"
    return ordered


def resolve_resume(args: argparse.Namespace) -> None:
    """Set recipe, name and parent folder of the run from `--resume RUN`, where RUN is its folder, a file in it, or its
    name.
    """
    if not isinstance(args.resume, str):
        return
    run = run_folder(Path(args.resume))
    if not (run / "config.yaml").is_file() and "/" not in args.resume:
        asked = [word.partition("=")[2] for word in args.overrides if word.startswith("train.runs=")]
        run = Path([Config().train.runs, *asked][-1], args.resume).absolute()
    if not args.config and not (run / "config.yaml").is_file():
        print(
            f"{args.resume}: --resume: no run has this name or folder; `ls runs` shows those there are", file=sys.stderr
        )
        raise SystemExit(2)
    args.config = args.config or str(run)
    args.overrides += [f"train.runs={run.parent}", f"train.name={run.name}"]


def run_folder(path: Path) -> Path:
    """Return the folder of the run that `path`, a checkpoint or weights, belongs to; `path` itself if it belongs to
    none.
    """
    candidates = [path, path.parent, path.parent.parent]
    return next((folder for folder in candidates if (folder / "config.yaml").is_file()), path).absolute()


def refuse_missing_run(folder: Path) -> None:
    """Raise ConfigError if a folder contains no run."""
    if not (folder / "status.json").exists():
        raise ConfigError(f"{folder}: contains no run; name a folder such as runs/NAME, which train.py writes")


def recipe_of(args: argparse.Namespace) -> Config | None:
    """Load the recipe of --config, or return None without one. Exits with code 2 if it or an override is wrong."""
    try:
        if args.config:
            return load(args.config, args.overrides)
        overridden(args.overrides)
        return None
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _without_recipe(args: argparse.Namespace) -> str:
    """Return the error for a command line without a recipe; a path on it is named in the advice."""
    given = next((word for word in args.overrides if os.path.exists(word)), "")
    if getattr(args, "resume", None):
        run = given if Path(given, "config.yaml").is_file() else "runs/NAME"
        return f"--resume: names no run; write --resume {shlex.quote(run)}, or name its recipe by --config"
    own = f"for videos of your own, --config finetune.yaml data.train={shlex.quote(given or 'FOLDER')}"
    return f"--config: required; {own}; else a recipe's path or name (docs/recipes.md lists them)"


def from_arguments(args: argparse.Namespace) -> Config:
    """Load the configuration. Exits with code 2 if it is wrong, with 0 after --print-config."""
    try:
        if not args.config:
            raise ConfigError(_without_recipe(args))
        config = load(args.config, args.overrides)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if args.print_config:
        print(describe(config))
        raise SystemExit(0)
    return config
