"""Write the HTML report of finished or running runs: `python tools/report.py runs/NAME ...`.

Several runs also get a comparison page, next to the first one's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from configs import cli
from engine import activity, outputs


def main() -> int:
    exits.exit_quietly_until_started()
    parser = cli.Parser(prog="report.py", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or a file in it")
    outputs.add_force_argument(parser)
    args = parser.parse_args()
    from engine import program

    folders = list(dict.fromkeys(cli.run_folder(path) for path in args.runs))

    def check() -> None:
        for folder in folders:
            cli.refuse_missing_run(folder)

    def work() -> None:
        from engine.runs.pages import compare, report  # takes seconds; logging has been set up by now

        with activity.doing("writing the report"):
            for folder in folders:
                print(report.write(folder, outputs.Outputs(force=args.force)))
                activity.progress()
            if len(folders) > 1:
                print(compare.write(folders, outputs.Outputs(force=args.force)))

    return program.run("report.py", work, check=check)


if __name__ == "__main__":
    sys.exit(main())
