"""The command line that every program with a recipe shares: `--config RECIPE`, overrides, `--print-config`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from configs.checks import ConfigError
from configs.load import load
from configs.read import KINDS, SHIPPED, did_you_mean, likely
from configs.schema import Config
from configs.show import describe

OVERRIDE_FLAGS = ("-o", "--override", "--cfg-options")  # what other trainers (PaddleVideo, mmaction2) put before one


class Parser(argparse.ArgumentParser):
    """An argument parser that takes flags and overrides in any order and answers a wrong one in a line."""

    def __init__(self, **kwargs) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):  # type: ignore[override]
        """The parsed arguments; leaves with code 2 and a `did you mean` at a flag that does not exist."""
        parsed, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            self.error(f"{flag}: no such flag{self._hint(flag)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Leave with code 2 after one line, without the usage that would hide it."""
        self.exit(2, f"{self.prog}: {message}\n")

    def _hint(self, flag: str) -> str:
        """What was meant: `--lr` and `--train.epochs` are settings, which are written without dashes."""
        if flag in OVERRIDE_FLAGS:
            return "; a setting stands alone, as in optim.lr=0.01"
        key = flag.lstrip("-")
        settings = [key] if key in KINDS else likely(key)
        flags = get_close_matches(flag, self._option_string_actions, 1)
        if not flags or any(setting.endswith(key) for setting in settings):
            return did_you_mean(f"{setting}=VALUE" for setting in settings)
        return did_you_mean(flags)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` (`-c`), `--print-config` and the trailing `section.key=value` overrides."""
    recipes = ", ".join(SHIPPED)
    parser.add_argument("--config", "-c", metavar="RECIPE", help=f"required: path of a YAML, or one of {recipes}")
    parser.add_argument("--print-config", action="store_true", help="show every setting (* where not default) and stop")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace the recipe's")


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `engine.evaluation.results` does with the result of an evaluation."""
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write totals and the counts of every class")
    parser.add_argument("--per-class", action="store_true", help="print each class, worst first, and confused pairs")
    parser.add_argument(
        "--confusion", type=confusion_file, metavar="FILE.csv|FILE.png", help="write the confusion matrix, or draw it"
    )


def confusion_file(text: str) -> Path:
    """The type of an argument that names a table or a picture to be written."""
    if Path(text).suffix not in (".csv", ".png"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .csv or .png")
    return output_file(text)


def output_file(text: str) -> Path:
    """The type of an argument that names a file to be written: it is refused before the work, not after."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it, or name another file")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # permissions alone do not tell: a disk may be read-only
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written ({error.strerror}); name another file") from None
    return path


def from_arguments(args: argparse.Namespace) -> Config:
    """The configuration that the arguments ask for. Leaves where it is wrong (code 2) or was only to be shown."""
    try:
        if not args.config:
            raise ConfigError(f"--config: required; give a recipe's path or one of {', '.join(SHIPPED)}")
        config = load(args.config, args.overrides)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if args.print_config:
        print(describe(config))
        raise SystemExit(0)
    return config
