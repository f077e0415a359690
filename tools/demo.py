"""Run the whole chain on generated data: python tools/demo.py [--json FILE]

Generates the demo dataset, trains a TSM and a TSN with the same settings, evaluates both on held-out scenes, and prints
their accuracy. Each step is a normal command, which is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import json
import shlex
import subprocess
import time
from argparse import RawDescriptionHelpFormatter

from configs import cli

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> None:
    """Print a command and run it in the project's folder; exit with its code if it fails."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    code = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
    if code:
        sys.exit(code)


def train_and_evaluate(name: str, overrides: list[str]) -> dict:
    """Train the demo recipe as run `name`; return eval.py's result for its best weights."""
    arguments = ["--config", "demo.yaml", f"train.name={name}", *overrides]
    result = ROOT / "runs" / name / "eval.json"
    run("train.py", *arguments, "--fresh")
    run("eval.py", *arguments, "--json", str(result))
    return json.loads(result.read_text())


def main() -> int:
    exits.exit_quietly_until_started()
    parser = cli.Parser(prog="demo.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json", type=cli.output_file, metavar="FILE", help="write the scores, the time and the machine to FILE"
    )
    arguments = parser.parse_args()
    return exits.run_to_exit_code("demo.py", lambda: demonstrate(arguments.json))


def demonstrate(record_file: Path | None) -> int:
    """Run every step; return 0, or exit with the code of the step that failed."""
    started = time.monotonic()
    run("tools/prepare.py", "demo")
    scores = {
        "TSM": train_and_evaluate("demo", []),
        "TSN": train_and_evaluate("demo_tsn", ["model.name=tsn"]),
    }
    seconds = round(time.monotonic() - started)
    if record_file:
        from engine.outputs import Outputs
        from engine.runs.environment import environment  # imports torch, which takes seconds

        record = {"bench": "demo", "seconds": seconds, "scores": scores, "env": environment()}
        Outputs().write({record_file: json.dumps(record) + "\n"})
    print(f"\nTop-1 on held-out scenes, after {seconds} s:")
    for model, score in scores.items():
        print(f"  {model}  {100 * score['top1']:5.1f} %   ({score['correct']} of {score['evaluated']} videos)")
    print("A single frame does not show the direction of motion: TSN, which ignores frame order, guesses; TSM sees it.")
    print("Look at runs/demo/report.html and runs/demo_tsn/report.html.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
