"""Run train.py: open the folder, load the state to resume from, train, write the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial

from configs import Config, ConfigError
from dali_pipes import Loader
from dali_pipes.device import pick_device
from engine import activity, distributed, loaders, logs, runtime
from engine.runs import condition, run_folder
from engine.runs.pages import report
from engine.runs.run_folder import RunFolder
from engine.train import from_data, training
from engine.train.fit import Trainer
from engine.train.interrupt import Interrupt
from engine.train.resume import saved_state
from engine.train.training import Training
from engine.watch import Watch

logger = logging.getLogger(__name__)
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
    """Train with `settings`, on the ranks that torchrun started; return (finished, training).

    `recipe` and `weights` are files, which are never overwritten. `finished` is False if a signal stopped the run.
    Ranks that torchrun restarted always resume. `open_loader` is called with (config, split, device, class names), and
    with the rows `before` of a resumed run.
    """
    with distributed.processes(pick_device(settings.runtime.device), settings.runtime.timeout) as watcher:
        if distributed.restarts():
            resume, fresh = True, False
        with distributed.explained():
            before = distributed.on_rank_zero(lambda: from_data.settings_before(settings) if resume else None)
            before = distributed.from_rank_zero(before)
            chosen = distributed.on_every_rank(
                lambda: from_data.choose(settings, ranks=distributed.world_size(), weights=weights, before=before)
            )
            config = runtime.resolve(chosen.config)
            folder = distributed.on_rank_zero(
                lambda: run_folder.open_run(
                    chosen.config, resume=resume, fresh=fresh, sources=[recipe, weights, chosen.source], used=config
                )
            )
        with _recorded(folder, watcher) as interrupt, distributed.explained():
            chosen.prepare(resumed=before is not None)
            if chosen.texts:
                logger.info(f"the lists of both sides are in {chosen.config.train.folder / 'data'}")
            state = distributed.on_rank_zero(lambda: saved_state(folder.checkpoints, folder.evaluations()))
            state = distributed.from_rank_zero(state)
            if resume and state is None:
                logger.info(
                    f"{chosen.config.train.folder} contains no checkpoint to resume; the run starts from the beginning"
                )
            with closing(training.build(config, weights=weights, state=state, open_loader=open_loader)) as built:
                if folder and not folder.described:  # only now: refused settings do not replace those of the run
                    run_folder.describe(folder, chosen.config, config)
                finished = Trainer(built, folder).fit(interrupt)
            if folder and finished:
                with activity.doing("writing the report"):
                    report.write_if_possible(folder.folder)
                with activity.doing("drawing pictures for the trackers"):
                    folder.send_pictures()
                logger.info(condition.use_of(folder.folder))
    return finished, built


@contextmanager
def _recorded(folder: RunFolder | None, watcher: Watch) -> Iterator[Interrupt]:
    """Write log.txt and status.json on rank 0 during the block, including its result or error."""

    def end(state: str, reason: str) -> None:
        if folder:
            folder.status.update(state=state, reason=reason, **_now())

    watcher.on_end = partial(end, "failed")
    with Interrupt(end) as interrupt, logs.copied_to(folder.folder / "log.txt") if folder else nullcontext():
        if folder:
            folder.status.update(state="running", reason=None, **_now())
            folder.status.start_heartbeat(_now)
        try:
            yield interrupt
        except BaseException as error:
            end("failed", str(error) or type(error).__name__)
            if folder and not folder.described and isinstance(error, ConfigError):
                folder.status.put_back()  # not the run failed, but a command to continue it
            raise
        finally:
            interrupt.close()
            if folder:
                folder.close()


def _now() -> dict:
    """Return the fields of status.json about the current activity."""
    now = activity.current()
    return {"phase": now["stage"], "activity": now["name"], "step": now["step"]}
