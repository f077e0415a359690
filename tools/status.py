"""Print the state of runs, and the command that continues each: `python tools/status.py runs/*`.

Exit codes: 0 if every run is alive, finished or never started; 2 if a folder does not exist; 3 if a run stalls; 4 if
one has died, failed or was preempted, so that starting it again with --resume continues it. The largest counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from configs import cli

FINE, STALLED, DEAD = 0, 3, 4


def main() -> int:
    parser = cli.Parser(prog="status.py", description="Print the state of runs, and the command that continues each.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder that train.py wrote")
    args = parser.parse_args()
    return exits.run_to_exit_code("status.py", lambda: report(args))


def report(args: argparse.Namespace) -> int:
    """Print a line for each run; return the exit code."""
    from engine.runs.condition import condition

    worst = FINE
    for folder in [path for path in args.runs if not path.is_file()] or args.runs:  # runs/* matches comparisons, too
        if not folder.exists():
            print(f"status.py: {folder}: there is no such folder; check the path", file=sys.stderr)
            worst = max(worst, exits.MENDABLE)
            continue
        found = condition(folder)
        print(f"{folder}: {found.text}")
        worst = max(worst, {"stalled": STALLED, "dead": DEAD}.get(found.state, FINE))
    return worst


if __name__ == "__main__":
    sys.exit(main())
