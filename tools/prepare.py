"""Prepare data: python tools/prepare.py COMMAND ...; each command is a module, `tools/prepare_COMMAND.py`.

Such a module opens with what the command does (its help), has `add_arguments(parser)`, and `run(arguments)`, which may
return an exit code, and raise DataError or ConfigError for what the user can mend.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from difflib import get_close_matches
from importlib import import_module

from configs import ConfigError, cli
from dali_pipes import DataError
from engine.logs import start_logging

COMMANDS = {
    "lists": "make lists from published annotations, and say what is missing, twice or in two splits",
    "scan": "look at every video of a list once, and keep what is found beside the list",
    "split": "divide a list into one to train on and one held out, whole groups on one side",
    "subset": "make a small set of a large one, a few videos of every class",
    "stats": "say what sets are like: lengths, sizes, codecs, keyframes, decoding work per clip",
    "verify": "decode the videos of lists, and say which cannot be used and why",
    "transcode": "store the videos of lists or folders again, fast to read",
    "frames": "store videos as folders of JPEG pictures",
    "demo": "write the generated demo set",
}
USAGE = "usage: python tools/prepare.py COMMAND ... (COMMAND --help says more)\n\n" + "\n".join(
    f"  {name:10} {purpose}" for name, purpose in COMMANDS.items()
)


def main(words: list[str]) -> int:
    """The exit code: the command's own, or 2 after one line on stderr where the user can mend what is wrong."""
    name, *rest = words or ["--help"]
    if name in ("--help", "-h"):
        print(USAGE)
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"prepare.py: {name}: no such command; {hint}", file=sys.stderr)
        return 2
    return run(name, rest)


def run(name: str, words: list[str]) -> int:
    """The exit code of one command."""
    command = import_module(f"tools.data.{name}")
    parser = cli.Parser(prog=f"prepare.py {name}", description=command.__doc__)
    command.add_arguments(parser)
    arguments = parser.parse_args(words)
    start_logging(sys.stderr)
    try:
        return exits.run_to_exit_code(parser.prog, lambda: command.run(arguments) or 0)
    except (DataError, ConfigError) as error:
        print(f"prepare.py {name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
