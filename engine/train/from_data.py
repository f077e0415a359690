"""Choose the settings that a recipe leaves to the data: its name, classes, held-out part, batch, rate and length.

`configs/finetune.yaml` leaves all of them. A setting that the recipe or the command line gives is kept. The rules
(docs/custom_dataset.md) depend on the list and the number of ranks alone. A resumed run keeps what it chose at first.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import configs
from configs import Config, ConfigError
from configs.schema import Clip, Data, Model
from dali_pipes.lists.formats.source import split_of
from dali_pipes.lists.listing import Listing, read_list
from dali_pipes.lists.split import hold_out
from dali_pipes.scan.build import scan_divided
from dali_pipes.storage.objects import absolute, is_url
from engine import activity, distributed, loaders
from engine.output_record import is_result
from engine.outputs import Outputs
from engine.runs import checkpoint_files
from models.weights.load import has_video_classes

logger = logging.getLogger(__name__)
BATCHES = (32, 16, 8)  # the first that leaves enough steps in an epoch
STEPS_PER_EPOCH = 20
SHORTEST = 12  # epochs
LONGEST = {"scratch": 60, "backbone": 40, "network": 60}
STEPS = {"scratch": 700, "backbone": 1000, "network": 600}
"""Optimizer steps to aim at, by what the network starts from."""
RATES = {"scratch": 0.2, "backbone": 0.04, "network": 0.001}
"""Learning rate for 64 clips: of the small networks that this project trains from nothing (configs/pan4.yaml), from
ImageNet weights as measured on two small sets (docs/decisions.md), and of MIT's fine-tuning from weights of a whole
network."""


DROPOUTS = {"scratch": 0.2, "backbone": 0.5, "network": 0.5}
FC_STDS = {"scratch": 0.01, "backbone": 0.001, "network": 0.001}
"""Dropout and the standard deviation of the classifier's first weights: of configs/pan4.yaml, and of MIT's TSM."""
FASTER = (5.0, 10.0)  # optim.fc_lr_mult of configs/finetune.yaml, of MIT's TSM; from nothing, it gives way to 1
_SIDE = re.compile("left|right")
IMBALANCE = 5  # largest class / smallest class from which data.balance is pointed out


@dataclass(frozen=True)
class Chosen:
    """A configuration with nothing left to the data, the lists that it names, and what was chosen, in words."""

    config: Config
    texts: dict[Path, str]
    notes: list[str]
    given: Data
    """The user's settings of the data, whose list or folder is never replaced."""

    @property
    def source(self) -> str:
        """Return the user's list or folder."""
        return self.given.train

    def write_lists(self, keep: bool) -> None:
        """Write the lists of the split; `keep` those that a run wrote before, which it resumes with."""
        outputs = Outputs([self.source])
        missing = {file: text for file, text in self.texts.items() if not (keep and is_result(file))}
        for folder in {file.parent for file in missing}:
            folder.mkdir(parents=True, exist_ok=True)
        outputs.write(missing)

    def prepare(self, resumed: bool = False) -> None:
        """Write the lists of the split, log what was chosen, and scan. A resumed run has its lists and their scan."""
        distributed.first_of_each_host(lambda: self.write_lists(keep=resumed))
        for note in self.notes:
            logger.info(note)
        if not resumed:
            self._scan()

    def _scan(self) -> None:
        """Scan the list that was divided, if one was; another run that divides it takes what was found."""
        if not self.texts:
            return
        data = self.config.data
        with activity.doing("scanning data.train", factor=loaders.SCAN):
            distributed.first_of_each_host(
                lambda: scan_divided(self.source, self.given, [data.train, data.val], data),
            )


def choose(
    config: Config, *, ranks: int, weights: str | None = None, folder: Path | None = None, before: Config | None = None
) -> Chosen:
    """Choose every setting that `config` leaves to the data.

    The lists of a split go to `folder`, by default `data` in the run's folder. `before` has the settings of a run that
    is resumed, which stay though videos are lost or the number of ranks differs. Raises DataError if data.train cannot
    be read or divided, CheckpointError if the file of weights cannot be read, and ConfigError if there is no list to
    choose from, or if a resumed run would be divided in another way.
    """
    asked, given, open_keys = config, config.data, config.derived_from_data()
    if not open_keys:
        return Chosen(config, {}, [], config.data)
    if config.data.source != "video":
        raise ConfigError(
            "\n".join(f"{key}: is chosen from data.train, which synthetic clips lack" for key in open_keys)
        )
    if before and "data.val" in open_keys:
        _refuse_other_division(given, before.data)
    config = named(config)
    listing = read_list(config.data.train, config.data)
    rows: Sequence[int] = listing.samples.tolist()
    texts: dict[Path, str] = {}
    notes: list[str] = []
    if config.data.val == "auto":
        data, rows, texts, notes = hold_out(
            listing, config.data, config.train.seed, folder or config.train.folder / "data"
        )
        config = replace(config, data=data)
    notes = [*notes, *_balance_notes(config.data, listing, rows), *_flip_notes(config.clip, listing.class_names)]
    model = _with_classes(config.model, listing, given.train)
    start = starts_from(model, weights)
    config = replace(config, model=_with_regularisation(model, start))
    config = _with_schedule(config, len(rows), ranks, start)
    config = _as_before(config, before, open_keys, asked) if before else config
    if problems := [f"{key}: {problem}" for key, problem in config.problems()]:
        raise ConfigError("\n".join(problems))
    return Chosen(config, texts, [] if before else [*notes, _summary(config, len(rows))], given)


@contextmanager
def with_lists(config: Config, weights: str | None) -> Iterator[Config]:
    """Yield the configuration with what is left to the data; lists of a split exist as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix=".dry-run-") as own:
        folder = Path(distributed.from_rank_zero(own))
        chosen = distributed.on_every_rank(
            lambda: choose(config, ranks=distributed.world_size(), weights=weights, folder=folder)
        )
        chosen.prepare()
        yield chosen.config


def settings_before(config: Config) -> Config | None:
    """Return the settings of the run that `config` would resume; None if it has not saved anything yet."""
    folder = named(config).train.folder
    begun = checkpoint_files.steps(folder / "checkpoints") and is_result(folder / "config.yaml")
    return configs.load(folder / "config.yaml") if begun else None


TOGETHER = {
    "data.val": tuple(
        f"data.{name}" for name in ("train", "root", "class_names", "format", "prefix", "suffix", "divided")
    ),
    "optim.lr": ("optim.lr_for_batch", "optim.fc_lr_mult"),
}
"""Settings that are chosen together with another one."""


def _refuse_other_division(data: Data, before: Data) -> None:
    """Raise ConfigError for settings of the division that differ from those of a run, which keeps its lists."""
    pairs = ((name, getattr(before, name), getattr(data, name)) for name in ("held_out", "group", "group_regex"))
    changes = [f"data.{name}: {old or 'empty'} -> {new or 'empty'}" for name, old, new in pairs if old != new]
    if changes:
        raise ConfigError(
            f"{'; '.join(changes)}: without effect, because a run keeps the division of its first start; set it back, "
            "or choose another train.name"
        )


def _as_before(config: Config, before: Config, open_keys: Sequence[str], asked: Config) -> Config:
    """Return the configuration with what a run chose at its first start; `asked` is what the user gave now."""
    for key in itertools.chain(*((key, *TOGETHER.get(key, ())) for key in open_keys)):
        section, _, name = key.partition(".")
        value = getattr(getattr(before, section), name)
        if key == "data.root" and value and not is_url(value) and not os.path.isdir(value):
            continue  # the videos have moved: paths in the lists of the split start from the folder of the given list
        if key == "optim.fc_lr_mult" and asked.optim.fc_lr_mult != FASTER:
            continue
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def named(config: Config) -> Config:
    """Name the run after its data, if it has no name."""
    if config.train.name != "auto":
        return config
    path, _ = split_of(absolute(config.data.train))
    name = os.path.basename(path.rstrip("/"))
    name = name if os.path.isdir(path) else os.path.splitext(name)[0]
    return replace(config, train=replace(config.train, name=name or "videos"))


def _balance_notes(data: Data, listing: Listing, rows: Sequence[int]) -> list[str]:
    """Point out classes of very different sizes, unless each of them is shown equally often."""
    counts = np.bincount(listing.label_N[list(rows)])
    ratio = counts.max() / counts[counts > 0].min()
    if data.balance != "none" or ratio < IMBALANCE:
        return []
    return [
        f"the largest class has {ratio:.3g} times as many videos as the smallest; data.balance=classes shows all of "
        "them equally often"
    ]


def _flip_notes(clip: Clip, names: Sequence[str]) -> list[str]:
    """Point out classes whose names differ in left and right alone, if clips are mirrored and keep their labels."""
    numbers = {name.casefold(): label for label, name in enumerate(names)}
    mirrored = ((numbers.get(_SIDE.sub(_other_side, name)), label) for name, label in numbers.items())
    pairs = [pair for pair in mirrored if pair[0] is not None and pair[0] < pair[1]]
    if not pairs or not clip.flip or clip.flip_pairs:
        return []
    first, second = pairs[0]
    exchanged = ",".join(str(label) for pair in pairs for label in pair)
    return [
        f"{names[first]} and {names[second]} seem to be mirror images, and clip.flip={clip.flip:g} mirrors "
        f"clips; clip.flip=0 mirrors none, clip.flip_pairs=[{exchanged}] exchanges the labels of mirrored ones"
    ]


def _other_side(side: re.Match) -> str:
    return "left" if side[0] == "right" else "right"


def _with_regularisation(model: Model, start: str) -> Model:
    """Choose the dropout and the first weights of the classifier."""
    dropout = DROPOUTS[start] if model.dropout == "auto" else model.dropout
    fc_std = FC_STDS[start] if model.fc_std == "auto" else model.fc_std
    return replace(model, dropout=dropout, fc_std=fc_std)


def _with_classes(model: Model, listing: Listing, source: str) -> Model:
    if model.num_classes:
        return model
    classes = len(listing.class_names) or 1 + int(np.max(listing.label_N))
    if classes < 2:
        raise ConfigError(f"data.train: {source} has {classes} class; a network needs at least two")
    return replace(model, num_classes=classes)


def _with_schedule(config: Config, videos: int, ranks: int, start: str) -> Config:
    """Choose the batch, the rate and the length of the training from the number of videos and the starting weights."""
    train, optim = config.train, config.optim
    unit = ranks * config.clip.repeats  # what a batch is a multiple of
    batch = train.batch or unit * max(1, pick_batch(videos) // unit)
    if not optim.lr:
        optim = replace(optim, lr=RATES[start], lr_for_batch=64)
        if start == "scratch" and optim.fc_lr_mult == FASTER:
            optim = replace(optim, fc_lr_mult=(1.0, 1.0))
    steps_per_epoch = max(1, videos * config.clip.repeats // batch)
    epochs = train.epochs or min(max(math.ceil(STEPS[start] / steps_per_epoch), SHORTEST), LONGEST[start])
    return replace(config, train=replace(train, batch=batch, epochs=epochs), optim=optim)


def starts_from(model: Model, weights: str | None) -> str:
    """Return what the network starts from: `scratch`, a `backbone` trained on ImageNet, or a whole `network`."""
    source = weights or model.pretrained
    if has_video_classes(source):
        return "network"
    return "scratch" if source == "none" else "backbone"


def pick_batch(videos: int) -> int:
    """Return the largest batch that leaves enough steps in an epoch, else the smallest, of no more than all videos."""
    return next((batch for batch in BATCHES if videos >= STEPS_PER_EPOCH * batch), min(BATCHES[-1], videos))


def _summary(config: Config, videos: int) -> str:
    train = config.train
    return f"{config.model.num_classes} classes, {videos} training videos: batch {train.batch}, {train.epochs} epochs"
