"""Evaluate a network: `python eval.py runs/NAME [section.key=value ...]`.

NETWORK is a run's folder, a file of weights or a file of tools/export.py; the default is the run of the recipe.
Settings of the network, clips and views come from its file, those of the data from --config or otherwise from the file.
Evaluates data.test, or data.val if data.test is empty or the command line names only data.val. Exit code 2 for user
errors.
"""

from __future__ import annotations

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from argparse import Namespace
from contextlib import closing, suppress

from configs import Config, ConfigError, cli, describe, flat, overridden, protocols


def arguments() -> Namespace:
    """Parse the command line. Flags become overrides of the eval section; those of a protocol come first."""
    parser = cli.Parser(
        prog="eval.py",
        description="Compute the exact accuracy of a network, on one or several ranks. NETWORK is a run's folder, a "
        "file of weights or of tools/export.py; default: the run of --config.",
        usage="%(prog)s [NETWORK] [--config RECIPE] [options] [section.key=value ...]",
    )
    cli.add_config_arguments(parser)
    parser.add_argument("--weights", "-w", metavar="FILE", help="the same as NETWORK")
    parser.add_argument("--protocol", choices=protocols.PROTOCOLS, help="the views of a published protocol")
    crops = parser.add_mutually_exclusive_group()
    crops.add_argument("--crops", choices=("center", "three", "ten"), help="the same as eval.crops=")
    crops.add_argument("--tencrop", action="store_true", help="the same as eval.crops=ten")
    parser.add_argument("--clips", type=int, metavar="N", help="the same as eval.clips=N")
    cli.add_result_arguments(parser)
    parser.add_argument("--scores", type=cli.array_file, metavar="FILE.npz", help="write the scores of every video")
    parser.add_argument("--scores-per-view", action="store_true", help="with --scores: also the scores of each view")
    parser.add_argument("--amp", action="store_true", help="the same as runtime.precision=fp16")
    args = parser.parse_args()
    args.network = cli.take_network(parser, args)
    if not args.network and not args.config:
        parser.error("no network given; name a run's folder such as runs/NAME, a file of weights, or --config RECIPE")
    if args.scores_per_view and not args.scores:
        parser.error("--scores-per-view: needs --scores FILE.npz")
    crops = "ten" if args.tencrop else args.crops
    if args.protocol:
        args.overrides[:0] = protocols.overrides(args.protocol)
    args.overrides += [f"eval.crops={crops}"] if crops else []
    args.overrides += [f"eval.clips={args.clips}"] if args.clips is not None else []
    args.overrides += ["runtime.precision=fp16"] if args.amp else []
    with suppress(ConfigError):  # a mistake is reported when the recipe is read
        given = overridden(args.overrides)
        args.overrides += ["data.test="] if given.get("data.val") and "data.test" not in given else []
    return args


def score(recipe: Config | None, args: Namespace) -> None:
    """Evaluate the network, print and write the result."""
    from dali_pipes.device import pick_device
    from engine import distributed, loaders
    from engine.evaluation.evaluate import evaluate
    from engine.evaluation.results import publish, writing
    from engine.evaluation.scores import ScoreCollector
    from engine.inference.evaluated import open_evaluated
    from engine.outputs import Outputs
    from engine.runs.environment import environment
    from engine.runs.find import network_file

    given = flat(recipe or Config()) | overridden(args.overrides)
    with distributed.processes(pick_device(given["runtime.device"]), given["runtime.timeout"]) as watcher:
        weights = distributed.one_rank_first(lambda: network_file(args.network or recipe.train.folder))
        network = open_evaluated(weights, recipe, args.overrides)
        config = network.config
        watcher.limit = config.runtime.timeout
        if args.print_config:
            print(describe(config))
            return
        outputs = Outputs([weights, args.config], args.force)
        outputs.add_lists(config.data, network.class_names)
        outputs.check(args.json, args.confusion, args.scores)
        keeper = ScoreCollector(views=args.scores_per_view) if args.scores else None
        with closing(loaders.open_loader(config, "test", network.device, network.class_names)) as loader:
            loaders.warn_of_overlap(config.data, loader)
            result = evaluate(network.model, loader, config, keep=keeper and keeper.add)
        about = {"weights": str(weights), "settings": flat(config), "env": environment()}
        kept = keeper and keeper.gather(loader, result, about)
        if distributed.rank() == 0:
            publish(result, loader.class_names, args, about, outputs)
        if kept:
            with writing(args.scores):
                kept.save(args.scores, outputs)


def check(recipe: Config | None, args: Namespace) -> None:
    """Raise ConfigError or DataError if the network, or the list that the command line or the recipe names, is
    missing.
    """
    from dali_pipes.lists.formats.source import refuse_missing

    if not args.network and recipe.train.name == "auto":
        raise ConfigError("train.name: auto stands for no run here; name one, such as runs/NAME")
    cli.refuse_missing_network(args.network or recipe.train.folder)
    data = flat(recipe) if recipe else overridden(args.overrides)
    place = data.get("data.test") or data.get("data.val")
    if place and place != "auto":
        refuse_missing(str(place))


def main() -> None:
    exits.exit_quietly_until_started()
    args = arguments()
    recipe = cli.recipe_of(args)  # before torch is imported: errors are shown at once
    from engine import program

    exits.exit_now(program.run("eval.py", lambda: score(recipe, args), check=lambda: check(recipe, args)))


if __name__ == "__main__":
    main()
