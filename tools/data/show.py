"""Write a page with what the network is really given: film strips of clips after cut, crop, flip and augmentation.

The clips come from the loader that training and evaluation use, with any recipe: the first of an epoch, in its order.
`--split train` draws as training does; `val` and `test` take the fixed views of evaluation, all views of a video. No
network is needed.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from configs import Config, cli
from dali_pipes.lists.listing import refuse_missing_lists
from engine.outputs import Outputs, add_force_argument
from engine.runs.pages import html
from engine.runs.pages.html import Table

CLIPS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="(%(default)s)")
    parser.add_argument("--epoch", type=cli.at_least(0), default=0, help="epoch of training, from 0 (%(default)s)")
    parser.add_argument("--clips", type=cli.at_least(1), default=CLIPS, help="most film strips (%(default)s)")
    parser.add_argument("--out", type=cli.output_file, default=Path("clips.html"), help="(%(default)s)")
    add_force_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    config = cli.from_arguments(arguments)
    refuse_missing_lists(config.data)
    from engine import runtime  # with torch, which help and mistakes do not wait for
    from engine.train import from_data

    outputs = Outputs([arguments.config], arguments.force)
    outputs.add_lists(config.data)
    outputs.check(arguments.out)
    with tempfile.TemporaryDirectory(prefix="show-") as folder:  # for the lists of a split
        chosen = from_data.choose(config, ranks=1, folder=Path(folder))
        chosen.prepare()
        listed = f"{arguments.split} side of {chosen.source}" if chosen.texts else ""
        page = make_page(runtime.resolve(chosen.config), arguments.split, arguments.epoch, arguments.clips, listed)
    outputs.write({arguments.out: page}, errors="replace")
    print(f"{arguments.out}: up to {arguments.clips} clips of data.{arguments.split}")


def make_page(config: Config, split: str, epoch: int, clips: int, listed: str = "") -> str:
    """Return the page of the first clips of an epoch; `config` is resolved. `listed` says where its list is from."""
    import torch

    from engine import loaders
    from engine.runs.pages import samples

    with closing(loaders.open_loader(config, split, torch.device(config.runtime.device))) as loader:
        return html.render(
            "samples.html.j2",
            title=f"Clips of data.{split}",
            summary=f"The first clips of epoch {epoch}" if split == "train" else "The first views",
            facts=_facts(config, split, listed or getattr(config.data, split)),
            samples=list(samples.of_loader(loader, epoch, clips)),
        )


def _facts(config: Config, split: str, listed: str) -> Table:
    """Return the settings that make the clips."""
    clip, evaluation = config.clip, config.eval
    rows: list[tuple[str, object]] = [("list", listed)]
    if split == "train":
        rows += [
            ("frames", f"{config.model.frames}, {clip.sampling}"),
            ("crop", f"{clip.train_crop}, resized to {clip.size} px"),
            ("flip", f"{clip.flip:g}" + (", labels exchanged by clip.flip_pairs" if clip.flip_pairs else "")),
            ("augmentation", _augmentation(config)),
        ]
    else:
        rows += [
            ("frames", f"{config.eval_frames}, {evaluation.sampling}"),
            ("views", f"{evaluation.clips} clips x {evaluation.crops} crops"),
            ("crop", f"{config.eval_size} px of a short side of {evaluation.short_side} px"),
        ]
    return Table([], rows)


def _augmentation(config: Config) -> str:
    clip = config.clip
    parts = {
        f"RandAugment {clip.randaugment}, magnitude {clip.randaugment_magnitude}": clip.randaugment,
        f"colour jitter {list(clip.color_jitter)}": any(clip.color_jitter),
        f"erasing {clip.erase:g}": clip.erase,
    }
    return ", ".join(name for name, used in parts.items() if used) or "none"
