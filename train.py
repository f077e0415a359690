"""Train a recipe: `python train.py --config tsm_k400_nhwc.yaml [section.key=value ...]`, alone or under torchrun.

Exit codes: 0 where the run finished or was stopped by a signal (runs/<name>/status.json says which), 2 for what the
user can mend. A stopped torchrun adds a traceback of its own and ends with 1, although the run has been saved.
"""

from __future__ import annotations

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import sys
from argparse import Namespace
from contextlib import closing, nullcontext

from configs import Config, cli


def arguments() -> Namespace:
    """Parse the command line."""
    parser = cli.Parser(prog="train.py", description="Train TSM or TSN, on one GPU, or under torchrun on many.")
    cli.add_config_arguments(parser)
    run = parser.add_mutually_exclusive_group()
    run.add_argument("--resume", action="store_true", help="go on where the run of this name stopped, if it has begun")
    run.add_argument("--fresh", action="store_true", help="remove what the run of this name has, and start over")
    parser.add_argument("--weights", "-w", metavar="FILE", help="start from these weights of the whole network")
    parser.add_argument(
        "--dry-run", action="store_true", help="try everything once, say what the run will need, and stop"
    )
    parser.add_argument("--amp", action="store_true", help="the same as runtime.precision=fp16")
    parser.add_argument("--validate", action="store_true", help="not needed: a run evaluates wherever data.val is set")
    args = parser.parse_args()
    args.overrides += ["runtime.precision=fp16"] if args.amp else []
    return args


def train(settings: Config, args: Namespace) -> None:
    """One run, from its folder to its last checkpoint."""
    from engine import distributed, logs, runtime
    from engine.runs import report, run_folder
    from engine.train import dry_run, fit, training

    with distributed.processes(runtime.pick_device(settings.runtime)):
        config = runtime.resolve(settings)
        if args.dry_run:
            dry_run.dry_run(config, args.weights)
            return

        run = distributed.on_rank_zero(lambda: run_folder.open_run(settings, resume=args.resume, fresh=args.fresh))
        with logs.copied_to(run.folder / "log.txt") if run else nullcontext():
            state = distributed.on_rank_zero(lambda: training.saved_state(run.checkpoints))
            state = distributed.from_rank_zero(state)
            with closing(training.build(config, weights=args.weights, state=state)) as under_way:
                finished = fit.fit(under_way, run)
            if run and finished:
                report.write_if_possible(run.folder)


def main() -> None:
    exits.exit_quietly_until_started()
    args = arguments()
    config = cli.from_arguments(args)  # before torch is imported: a mistake shows at once
    from engine import program

    exits.exit_now(program.run("train.py", lambda: train(config, args), log_to=sys.stdout))


if __name__ == "__main__":
    main()
