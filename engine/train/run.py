"""One run of train.py: its folder, the state that it resumes from, the training, the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext

from configs import Config
from dali_pipes import Loader
from engine import distributed, loaders, logs, runtime
from engine.runs import report, run_folder
from engine.train import training
from engine.train.fit import Trainer
from engine.train.training import Training

OpenLoader = Callable[..., Loader]


def run(
    settings: Config,
    *,
    resume: bool = False,
    fresh: bool = False,
    weights: str | None = None,
    recipe: str | None = None,
    open_loader: OpenLoader = loaders.open_loader,
) -> tuple[bool, Training]:
    """Train what `settings` describe, on the ranks that torchrun started; returns (finished, training).

    `recipe` and `weights` name files, which are never replaced. `finished` is False if a signal stopped the run. Ranks
    that torchrun has restarted resume in any case. `open_loader` is called with (config, split, device, class names).
    """
    if distributed.attempt():
        resume, fresh = True, False
    config = runtime.resolve(settings)
    with distributed.processes(config.runtime.device):
        folder = distributed.on_rank_zero(
            lambda: run_folder.open_run(settings, resume=resume, fresh=fresh, sources=[recipe, weights])
        )
        with logs.copied_to(folder.folder / "log.txt") if folder else nullcontext():
            state = distributed.on_rank_zero(lambda: training.saved_state(folder.checkpoints))
            state = distributed.from_rank_zero(state)
            with closing(training.build(config, weights=weights, state=state, open_loader=open_loader)) as built:
                finished = Trainer(built, folder).fit()
            if folder and finished:
                report.write_if_possible(folder.folder)
    return finished, built
