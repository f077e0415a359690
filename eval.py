"""Evaluate a network: `python eval.py --config tsm_k400_nhwc.yaml --weights runs/x/best.pt`.

Reads data.test (data.val if that is empty) with the evaluation code of training. Without --weights it takes the best
checkpoint of the recipe's run. Exit code 2 for user errors.
"""

from __future__ import annotations

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from argparse import Namespace
from contextlib import closing
from pathlib import Path

from configs import Config, cli, flat, protocols


def arguments() -> Namespace:
    """Parse the command line. Flags become overrides of the eval section; those of a protocol come first."""
    parser = cli.Parser(prog="eval.py", description="Exact accuracy of a network, alone or under torchrun.")
    cli.add_config_arguments(parser)
    parser.add_argument("--weights", "-w", metavar="FILE", help="weights of any known format; else the run's best.pt")
    parser.add_argument("--protocol", choices=protocols.PROTOCOLS, help="the views of a published protocol")
    crops = parser.add_mutually_exclusive_group()
    crops.add_argument("--crops", choices=("center", "three", "ten"), help="the same as eval.crops=")
    crops.add_argument("--tencrop", action="store_true", help="the same as eval.crops=ten")
    parser.add_argument("--clips", type=int, metavar="N", help="the same as eval.clips=N")
    cli.add_result_arguments(parser)
    parser.add_argument("--scores", type=cli.output_file, metavar="FILE.npz", help="write the scores of every video")
    parser.add_argument("--scores-per-view", action="store_true", help="with --scores: also those of each view")
    parser.add_argument("--amp", action="store_true", help="the same as runtime.precision=fp16")
    args = parser.parse_args()
    if args.scores_per_view and not args.scores:
        parser.error("--scores-per-view: there is no file for them; name one with --scores")
    crops = "ten" if args.tencrop else args.crops
    if args.protocol:
        args.overrides[:0] = protocols.overrides(args.protocol)
    args.overrides += [f"eval.crops={crops}"] if crops else []
    args.overrides += [f"eval.clips={args.clips}"] if args.clips is not None else []
    args.overrides += ["runtime.precision=fp16"] if args.amp else []
    return args


def score(config: Config, args: Namespace) -> None:
    """Evaluate the weights, print and write the result."""
    from engine import distributed, loaders, runtime
    from engine.evaluation.evaluate import evaluate
    from engine.evaluation.results import publish, writing
    from engine.evaluation.scores import ScoreCollector
    from engine.runs.environment import environment
    from engine.train.training import build_network

    config = runtime.resolve(config)
    with distributed.processes(config.runtime.device):
        device = runtime.prepare(config.runtime, config.train.seed)
        weights = args.weights or Path(config.train.runs) / config.train.name / "best.pt"
        model = runtime.place(build_network(config, weights), config.runtime, device)
        keeper = ScoreCollector(views=args.scores_per_view) if args.scores else None
        with closing(loaders.open_loader(config, "test", device)) as loader:
            result = evaluate(model, loader, config, keep=keeper and keeper.add)
        about = {"weights": str(weights), "settings": flat(config), "env": environment()}
        kept = keeper and keeper.gather(loader, result, about)
        if distributed.rank() == 0:
            publish(result, loader.class_names, args, about)
        if kept:
            with writing(args.scores):
                kept.save(args.scores)


def main() -> None:
    exits.exit_quietly_until_started()
    args = arguments()
    config = cli.from_arguments(args)  # before torch is imported: a mistake shows at once
    from engine import program

    exits.exit_now(program.run("eval.py", lambda: score(config, args)))


if __name__ == "__main__":
    main()
