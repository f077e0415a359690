"""Train a recipe: `python train.py --config tsm_k400_nhwc.yaml [section.key=value ...]`, alone or under torchrun.

Exit codes: 0 if the run finished or was stopped by a signal (runs/<name>/status.json says which), 2 for errors that the
user can fix. A stopped torchrun prints a traceback and ends with 1, although the run has been saved.
"""

from __future__ import annotations

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import os
import sys
from argparse import Namespace
from dataclasses import replace

from configs import Config, cli


def arguments() -> Namespace:
    """Parse the command line."""
    parser = cli.Parser(prog="train.py", description="Train TSM or TSN on one GPU, or on several with torchrun.")
    cli.add_config_arguments(parser)
    run = parser.add_mutually_exclusive_group()
    run.add_argument(
        "--resume", nargs="?", const=True, metavar="RUN", help="continue the run of this name, or of a run's folder"
    )
    run.add_argument("--fresh", action="store_true", help="delete the run of this name and start over")
    parser.add_argument("--weights", "-w", metavar="FILE", help="start from these weights of the whole network")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="run each part once, print the memory and disk space that the run will need, and stop",
    )
    parser.add_argument(
        "--profile",
        type=cli.output_file,
        metavar="FILE.json",
        help="train a few steps, write their trace, print the ten largest costs, and stop",
    )
    parser.add_argument("--amp", action="store_true", help="the same as runtime.precision=fp16")
    parser.add_argument("--validate", action="store_true", help="not needed: a run evaluates if data.val is set")
    args = parser.parse_args()
    cli.resolve_resume(args)
    args.overrides += ["runtime.precision=fp16"] if args.amp else []
    return args


def train(settings: Config, args: Namespace) -> None:
    """Run, dry-run or profile a training."""
    from engine.runs.find import network_file
    from engine.train.dry_run import dry_run
    from engine.train.profile import profile_steps
    from engine.train.run import run

    if args.weights and os.path.isdir(args.weights):
        args.weights = str(network_file(args.weights))
    if args.weights and "model.num_classes" in settings.derived_from_data():  # the classes come from the data
        settings = replace(settings, model=replace(settings.model, pretrained=args.weights))
        args.weights = None
    if args.dry_run:
        dry_run(settings, args.weights)
    elif args.profile:
        profile_steps(settings, args.weights, args.profile, recipe=args.config)
    else:
        run(settings, resume=bool(args.resume), fresh=args.fresh, weights=args.weights, recipe=args.config)


def check(settings: Config, args: Namespace) -> None:
    """Raise ConfigError or DataError if the initial network or a list is missing."""
    from dali_pipes.lists.listing import refuse_missing_lists

    if args.weights and not args.resume:
        cli.refuse_missing_network(args.weights)
    refuse_missing_lists(settings.data)


def main() -> None:
    exits.exit_quietly_until_started()
    args = arguments()
    config = cli.from_arguments(args)  # before torch is imported: errors are shown at once
    from engine import program

    exits.exit_now(program.run("train.py", lambda: train(config, args), sys.stdout, check=lambda: check(config, args)))


if __name__ == "__main__":
    main()
