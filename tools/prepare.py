"""Prepare data: python tools/prepare.py COMMAND ...; each command is a module, `tools/data/COMMAND.py`.

The module's docstring is the command's help. The module has `add_arguments(parser)` and `run(arguments)`, which may
return an exit code and raises DataError or ConfigError for errors that the user can fix.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from difflib import get_close_matches
from importlib import import_module

from configs import ConfigError, cli
from dali_pipes import DataError
from engine import activity, logs

COMMANDS = {
    "lists": "make lists from published annotations; report missing, duplicate and overlapping videos",
    "scan": "index every video of a list once, in a catalogue next to the list",
    "split": "split a list into training and validation lists, keeping groups together",
    "subset": "make a small dataset of a large one: a few videos of every class",
    "stats": "print dataset statistics: lengths, sizes, codecs, keyframes, decoding work per clip",
    "show": "write a page with the clips that the network is given: any recipe, any split",
    "verify": "decode the videos of lists; list those that cannot be used, with the reason",
    "transcode": "transcode the videos of lists or folders for fast reading",
    "cut": "make a file of each part of a video that a list names with start and end",
    "pack": "pack the videos of lists into tar shards, with lists and catalogues",
    "frames": "extract videos to folders of JPEG frames",
    "demo": "write the generated demo dataset",
}
USAGE = "usage: python tools/prepare.py COMMAND ... (COMMAND --help says more)\n\n" + "\n".join(
    f"  {name:10} {purpose}" for name, purpose in COMMANDS.items()
)


def main(words: list[str] | None = None) -> int:
    """Run the command in `words` (default: the command line); return its exit code."""
    if words is None:
        exits.exit_quietly_until_started()
        words = sys.argv[1:]
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
    """Run one command; return its exit code, or 2 after one line on stderr for errors that the user can fix."""
    command = import_module(f"tools.data.{name}")
    parser = cli.Parser(prog=f"prepare.py {name}", description=command.__doc__)
    command.add_arguments(parser)
    arguments = parser.parse_args(words)
    logs.start_logging(sys.stderr)
    try:
        with logs.telling_of_silence(), activity.doing(f"running {name}"):
            return exits.run_to_exit_code(parser.prog, lambda: command.run(arguments) or 0)
    except (DataError, ConfigError) as error:
        print(f"prepare.py {name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
