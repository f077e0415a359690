"""The state of a training: build it from settings, save it to a checkpoint, restore it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

import configs
from configs import Config, ConfigError
from dali_pipes import Batch, Loader
from dali_pipes.lists.rows import Rows
from engine import activity, distributed, loaders, runtime
from engine.classes import fit_classifier
from engine.runs.environment import environment
from engine.train import cuda_graph, norms, optim, resume
from engine.train.optim import EmaWeights
from engine.train.step import StepSettings, Tally, make_step_settings, train_step
from models import LoadReport, Recognizer, build_model, describe_shift, load_pretrained, load_weights
from models.shift.measured import missing_for_kernels
from models.shift.measuring import measure_missing

logger = logging.getLogger(__name__)
OF_CLIPS = ("model.frames", "clip.mean", "clip.std")  # settings of the clips that a network knows
PATIENCE = "train.patience: counts evaluations, and there are none before the end; set data.val and train.eval_every"
COMPILING = 10.0  # multiple of runtime.timeout for compiling kernels and for the first step


@dataclass
class Training:
    """A training in progress. `model` has the weights; a step calls `ddp_model`."""

    config: Config  # resolved: no `auto` in its runtime section
    device: torch.device
    model: nn.Module
    ddp_model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step_settings: StepSettings
    average: EmaWeights | None
    train_loader: Loader
    val_loader: Loader | None
    norm_counts: list[Tensor]  # batch counters of batch norms
    recorded: cuda_graph.Recorded | None = None  # the step as a CUDA graph (runtime.cuda_graph)
    step: int = 0  # finished optimizer steps
    skipped: int = 0  # steps among them that train.on_nonfinite skipped

    def __post_init__(self) -> None:
        self._rows = self.train_loader.rows
        self._statistics = norms.Statistics(self.model) if self.config.train.on_nonfinite == "skip" else None

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    @property
    def total_steps(self) -> int:
        return self.config.train.epochs * self.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        return self.step > 0 and self.step % self.steps_per_epoch == 0

    @property
    def eval_model(self) -> nn.Module:
        """Return the module to evaluate: the EMA weights if there are any, otherwise `model`."""
        return self.average.model if self.average else self.model

    def take_step(self, batch: Batch, tally: Tally) -> Tensor:
        """Train on a batch; return the gradient norm, on the device. Random draws depend only on the step."""
        runtime.seed_step(self.config.train.seed, self.step, distributed.rank())
        before = self._statistics and self._statistics.copy()
        grad_norm = train_step(
            self.ddp_model, self.optimizer, self.scaler, batch, self.step, self.step_settings, tally, self.recorded
        )
        if before is not None:
            self._statistics.restore_where(tally.newest_left_out, before)
        if self.norm_counts:
            torch._foreach_add_(self.norm_counts, self.step_settings.parts)
        if self.average:
            self.average.update(self.step)
        self.step += 1
        return grad_norm

    def make_norms_precise(self) -> None:
        """Compute the batch-norm statistics over this epoch's first batches (train.precise_bn)."""
        epoch = max(self.step - 1, 0) // self.steps_per_epoch
        runtime.seed_step(self.config.train.seed, self.step, distributed.rank())
        with closing(self.train_loader.epoch(epoch)) as batches:
            mixed = (self.step_settings.mix(batch)[0].clips_BTCHW for batch in batches)
            clips = islice(mixed, self.config.train.precise_bn)
            with activity.doing("computing the statistics of batch norms"):
                settings = self.step_settings
                number = norms.make_precise(self.eval_model, clips, settings.autocast, settings.parts)
        logger.info(f"batch-norm statistics computed over {number} batches per rank (train.precise_bn)")

    def learned(self) -> dict:
        """Return all tensors that training changes, by name."""
        average = {"ema": self.average.model.state_dict()} if self.average else {}
        return {"model": self.model.state_dict(), **average, "optimizer": self.optimizer.state_dict()["state"]}

    def weights(self) -> dict:
        """Return the content that evaluation and prediction need; `engine/inference/saved_model.py` reads it."""
        about = {"config": configs.flat(self.config), "class_names": self.train_loader.class_names, "step": self.step}
        average = {"ema": self.average.model.state_dict()} if self.average else {}
        return {"model": self.model.state_dict(), **average, **about}

    def state(self) -> dict:
        """Return the content that resuming needs: everything that settings and step do not determine."""
        return self.weights() | {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "left_out": self.skipped,
            "steps_per_epoch": self.steps_per_epoch,
            "ranks": distributed.world_size(),
            "videos": self.train_loader.num_videos,
            "rows": self._rows and self._rows.to_state(),
            "environment": environment(),
        }

    def restore(self, state: dict) -> list[str]:
        """Continue from `state`; return the differences. Raises ConfigError as `resume.changes` does."""
        changes = resume.changes(state, configs.flat(self.config), self.train_loader)
        with resume.fitting(state["step"]):
            self.model.load_state_dict(state["model"])
            if self.average:
                self.average.model.load_state_dict(state.get("ema", state["model"]))
            optim.restore(self.optimizer, state["optimizer"]["state"])
            if state["scaler"]:  # empty if the earlier precision needed no scaler
                self.scaler.load_state_dict(state["scaler"])
        self.step, self.skipped = state["step"], state.get("left_out", 0)
        return changes

    def close(self) -> None:
        """Stop the loaders' threads."""
        for loader in filter(None, (self.train_loader, self.val_loader)):
            loader.close()


def build(
    config: Config,
    *,
    weights: str | None = None,
    state: dict | None = None,
    open_loader: Callable[..., Loader] = loaders.open_loader,
) -> Training:
    """Build a training at its first step, or at the step of `state`. All ranks call it; an error on one rank ends all.

    `config` is resolved. `weights` is a file for the whole network, instead of config.model.pretrained; it is ignored
    with a `state`.
    """
    if found := cuda_graph.problems(config, distributed.world_size()):
        distributed.raise_everywhere(ConfigError("\n".join(found)))
    if config.train.patience and not (config.train.eval_every and loaders.has_val(config)):
        distributed.raise_everywhere(ConfigError(PATIENCE))
    device = runtime.prepare(config.runtime, config.train.seed)
    clips_at_once = configs.clips_at_once(config, distributed.world_size())
    # the network before the lists: a missing file of weights is found at once, but a scan takes minutes
    model, loaded = build_network(config, weights) if state is None else (build_model(config.model), None)
    if weights and state is not None:
        logger.warning(
            f"--weights: {weights} is not used: the run continues from its own checkpoint; --fresh starts it over"
        )
    loaders.check_val(config)
    known = {"before": Rows.from_state(state["rows"])} if state and state.get("rows") else {}
    train_loader = open_loader(config, "train", device, state["class_names"] if state else (), **known)
    names = train_loader.class_names
    val_loader = open_loader(config, "val", device, names) if loaders.has_val(config) else None
    if val_loader:
        loaders.warn_of_overlap(config.data, val_loader)
    if loaded and loaded.has_video_classes:
        distributed.on_every_rank(lambda: fit_classifier(model, loaded, names, whole=bool(weights)))
    model, norm_counts = _placed(model, config, device)
    average = EmaWeights(model, config.train.ema) if config.train.ema else None
    ddp_model = distributed.wrap(model)
    rules = optim.for_batch(config.optim, config.train.batch)
    training = Training(
        config=config,
        device=device,
        model=model,
        ddp_model=ddp_model,
        optimizer=optim.make_optimizer(model, rules),
        scaler=runtime.grad_scaler(config.runtime),
        step_settings=make_step_settings(config, optim.make_schedule(rules, len(train_loader), config.train.epochs)),
        average=average,
        train_loader=train_loader,
        val_loader=val_loader,
        norm_counts=norm_counts,
    )
    if config.runtime.cuda_graph:
        training.recorded = cuda_graph.Recorded(cuda_graph.CudaGraph())
        optim.keep_rates_on_device(training.optimizer, device)
    blank_BTCHW = _blank_clips(config, clips_at_once, train_loader.clip_dtype, device)
    with activity.doing("compiling the network, and choosing buckets of gradients", factor=COMPILING):
        distributed.fix_ddp_buckets(model, ddp_model, blank_BTCHW, training.step_settings.autocast)
    changes = training.restore(state) if state is not None else None
    for line in describe_start(training, changes):
        logger.info(line)
    return training


def _placed(model: Recognizer, config: Config, device: torch.device) -> tuple[nn.Module, list[Tensor]]:
    """Move the network to its device in its training form; return it and the batch counters of its batch norms.

    On a GPU without measurements, the forms of the shift are timed.
    """
    if config.train.partial_bn:
        model.freeze_norms()
    if config.train.freeze != "none":
        model.freeze(config.train.freeze)
    model.recompute_blocks = config.runtime.recompute
    model = runtime.place(model, config.runtime, device)
    if config.train.sync_bn:
        model = norms.synchronize(model, device)
    norm_counts = norms.count_together(model)
    if device.type == "cuda" and not missing_for_kernels():
        dtype = runtime.HALF.get(config.runtime.precision, torch.float32)
        with activity.doing("timing the forms of the shift", factor=COMPILING):
            distributed.one_rank_first(lambda: measure_missing(model, device, dtype))
    return model, norm_counts


def build_network(config: Config, weights: str | None) -> tuple[Recognizer, LoadReport | None]:
    """Build the network with its initial weights, on the host. Downloads happen once per host."""

    def work() -> tuple[Recognizer, LoadReport | None]:
        model = build_model(config.model)
        report = load_weights(model, weights) if weights else load_pretrained(model, config.model.pretrained)
        if report:
            logger.info("; ".join([report.summary(), *_other_clips(report, config)]))
        return model, report

    with activity.doing("loading weights"):
        return distributed.one_rank_first(work)


def _other_clips(report: LoadReport, config: Config) -> Iterator[str]:
    """Yield a remark if the weights know clips of another length or normalisation, which their tensors do not show."""
    theirs, ours = report.found.settings, configs.flat(config)
    other = [key for key in OF_CLIPS if key in theirs and _listed(theirs[key]) != _listed(ours[key])]
    if other:
        seen = ", ".join(f"{key}={_listed(theirs[key])} (here {_listed(ours[key])})" for key in other)
        yield f"trained with {seen}"


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def describe_start(training: Training, changes: list[str] | None) -> list[str]:
    """Return the lines for the start of a run. `changes` is from `Training.restore`, None if nothing was restored."""
    config, ranks = training.config, distributed.world_size()
    dtype = runtime.HALF.get(config.runtime.precision, torch.float32)
    clips_at_once = configs.clips_at_once(config, ranks)
    shares = f", {config.train.batch // ranks} on each of {ranks} ranks" if ranks > 1 else ""
    repeats = f", {config.clip.repeats} of each video" if config.clip.repeats > 1 else ""
    parts = f", {clips_at_once} at a time" if config.train.accumulate > 1 else ""
    lines = [
        f"settings {configs.fingerprint(config)}, {config.runtime.precision} on {training.device.type}",
        describe_shift(training.model, training.device, dtype, compiled=config.runtime.compile == "on"),
        runtime.describe_compile(config.runtime),
        f"{config.train.batch} clips a step{repeats}{shares}{parts}",
        f"{_describe_videos(training.train_loader)}, {training.steps_per_epoch} steps an epoch, "
        f"{training.total_steps} in all",
        describe_rate(config),
        *optim.describe_unreached(config.optim, config.train.epochs),
        *optim.describe_groups(training.optimizer),
    ]
    if config.train.partial_bn:
        count = len(training.model.frozen_norms)
        lines.append(f"{count} batch norms, all but the first, stay as they are (train.partial_bn)")
    if config.train.freeze != "none":
        lines.append(f"{', '.join(training.model.frozen_parts)} stay as they are (train.freeze)")
    if changes is not None:
        done = " of as many: train.epochs is reached" if training.step >= training.total_steps else ""
        lines.append(f"resumed after step {training.step}{done}" + "".join(f"\n  {line}" for line in changes))
    return lines


def _describe_videos(loader: Loader) -> str:
    lost = loader.num_rows - loader.num_videos
    return f"{loader.num_rows} videos" + (f", {lost} of them unreadable: their places stay empty" if lost else "")


def describe_rate(config: Config) -> str:
    """Describe the base learning rate and its derivation."""
    rules = optim.for_batch(config.optim, config.train.batch)
    scaled = f" = {config.optim.lr:g} x {config.train.batch} / {rules.lr_for_batch}" if rules.lr_for_batch else ""
    return f"learning rate {rules.lr:g}{scaled}"


def _blank_clips(config: Config, clips: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros in the shape, dtype and memory layout of a training batch."""
    size = config.clip.size
    blank_BTHWC = torch.zeros(clips, config.model.frames, size, size, 3, dtype=dtype, device=device)
    return blank_BTHWC.permute(0, 1, 4, 2, 3)
