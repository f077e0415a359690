"""Convert another project's weights to this project's format, together with their settings and class names.

    python tools/import_weights.py TSM_k400.pdparams --config tsm_k400_videos.yaml --out best.pt [section.key=value ...]

Prints a report of loading and conversion. The new file needs no recipe; docs/weights.md lists the supported formats.
Exit code 2 for errors that the user can fix.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import argparse
from functools import partial

from configs import Config, cli, override
from engine.outputs import add_force_argument


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.Parser(
        prog="import_weights.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", metavar="FILE", help="weights of any known format, for the whole network")
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="ends in .pt or .safetensors")
    parser.add_argument("--class-names", metavar="FILE", help="one per line, by label; default: data.class_names")
    add_force_argument(parser)
    cli.add_config_arguments(parser)
    args = parser.parse_args(words)
    if not args.config:
        parser.error("--config: required; the recipe of the network, such as tsm_k400_videos.yaml (docs/weights.md)")
    return args


def import_weights(args: argparse.Namespace, config: Config) -> None:
    """Load the weights, convert them and write them with settings and class names."""
    from engine.classes import stored_names
    from engine.inference import saved_model
    from engine.inference.settings import combined, trained_settings
    from engine.outputs import Outputs
    from models import build_model, load_weights, read_file
    from models.weights import zoo

    outputs = Outputs([args.weights, args.class_names, args.config], args.force)
    outputs.check(args.out)
    path = zoo.local(args.weights)
    content = read_file(path)
    if trained := trained_settings(content, config, path):
        config = combined(path, trained, config, args.overrides, config)
    asked = [f"data.class_names={args.class_names}"] if args.class_names else []
    names = saved_model.class_names(stored_names(content, path), override(config, asked), [*args.overrides, *asked])
    model = build_model(config.model)
    print(load_weights(model, path, content).summary())
    saved_model.save(args.out, model, config, names, outputs)
    print(f"written to {args.out}, with {f'{len(names)} class names' if names else 'no class names'}")


def main() -> int:
    exits.exit_quietly_until_started()
    args = arguments()
    config = cli.from_arguments(args)  # before torch is imported: errors are shown at once
    from engine import program

    work = partial(import_weights, args, config)
    return program.run("import_weights.py", work, check=partial(cli.refuse_missing_network, args.weights))


if __name__ == "__main__":
    sys.exit(main())
