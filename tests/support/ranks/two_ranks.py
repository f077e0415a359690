"""Cases for `test_distributed`: several ranks work together, and rank 0 writes the results to a file.

Each function also works in one process, so that the tests can call it alone and compare.
"""

import json
import os
import signal
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from configs.schema import Optim
from dali_pipes.batch import Batch, Shard
from dali_pipes.feed import feeder
from dali_pipes.storage import faults
from dali_pipes.storage.faults import StorageFault
from engine import distributed, runtime
from engine.evaluation.evaluate import evaluate
from engine.evaluation.scores import ScoreCollector
from engine.train import norms, optim
from engine.train.step import StepSettings, Tally, label_loss, no_mixing, train_step
from models import build_model
from tests.support import tiny
from tests.support.loading import build_loader

CPU = torch.device("cpu")


def shard():
    return Shard(distributed.rank(), distributed.world_size())


def exchange(folder):
    """Return the results of the collectives on all ranks."""
    rank = distributed.rank()

    def take_a_turn():
        time.sleep(0.3 if rank == 0 else 0)
        (folder / f"turn-{rank}").write_text("done")
        return [path.name for path in folder.glob("turn-*")]

    return {
        "sum": distributed.all_sum(torch.tensor([2**53 + 1, rank])).tolist(),
        "from_zero": distributed.from_rank_zero(rank + 10),
        "turns": distributed.gather(sorted(distributed.one_rank_first(take_a_turn))),
        "fates": distributed.gather([fate_in(distributed.on_every_rank), fate_in(distributed.one_rank_first)]),
    }


def fate_in(meeting):
    """Return the result or the name of the error of a collective in which rank 1 fails."""
    try:
        return meeting(lambda: 1 // (1 - distributed.rank()))
    except Exception as error:
        return type(error).__name__


def evaluation(folder):
    """Evaluate 11 videos, one of them unreadable; rank 1's batch norms have drifted. Leaves a score file.

    Batches of a rank are equal for any number of ranks, so scores are equal bit for bit.
    """
    torch.manual_seed(0)
    model = build_model(tiny.config().model)
    nn.init.normal_(model.fc.weight)
    model.bn1.running_mean += 100 * distributed.rank()
    loader = tiny.RowLoader(11, 2, shard=shard(), train=False, views=2, bad=[7])
    keeper = ScoreCollector(views=True)
    result = evaluate(model, loader, tiny.config(train={"batch": 8}), keeper.add)
    if kept := keeper.gather(loader, result, about={}):
        kept.save(folder / "scores.npz")
    return result.to_json()


def late(folder):
    """Evaluate while rank 1 needs longer than the limit of ten seconds in all, but less for each of its batches."""
    distributed.common_watch().limit = 10.0
    loader = tiny.RowLoader(11, 2, shard=shard(), train=False)
    if distributed.rank() == 1:
        for step in range(3):
            tiny.before_step(loader, step, lambda batch: time.sleep(4))
    return evaluate(build_model(tiny.config().model), loader, tiny.config()).evaluated


def lost(folder):
    """Write the error that rank 0 gets after rank 1 has died."""
    if distributed.rank() == 1:
        os._exit(0)
    try:
        with distributed.explained():
            distributed.gather("are you there?")
    except distributed.PeerLost as error:
        (folder / "found.json").write_text(json.dumps({"lost": str(error)}))
        os._exit(0)


def stalled(folder):
    """Train while rank 1 hangs as it reads its third batch; rank 0 waits in a step. The limit is three seconds."""
    train = {"runs": str(folder), "batch": 6, "log_every": 50}
    settings = tiny.config(train=train, runtime={"timeout": 3.0})
    distributed.common_watch().limit = 3.0
    loaders = {"train": tiny.RowLoader(62, 6 // distributed.world_size(), shard=shard()), "val": None}
    if distributed.rank() == 1:
        tiny.before_step(loaders["train"], 2, lambda batch: time.sleep(600))
    tiny.resume(settings, loaders)


def failing(folder):
    """Train while rank 1 fails in its third step and rank 0 waits for its gradients."""
    settings = tiny.config(train={"runs": str(folder), "batch": 6, "log_every": 50})
    loaders = {"train": tiny.RowLoader(62, 6 // distributed.world_size(), shard=shard()), "val": None}
    if distributed.rank() == 1:
        tiny.before_step(loaders["train"], 2, lambda batch: 1 / 0)
    tiny.resume(settings, loaders)


def steps(folder=None, parts=2):
    """Take three steps of a network without batch norms, in parts, with an unreadable row; return its weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 16 * 16, 3))
    wrapped = distributed.wrap(model)
    loss = partial(label_loss, smoothing=0.1)
    settings = StepSettings(lambda step: 0.01, no_mixing, loss, parts=parts, max_norm=1.0)
    optimizer, tally = optim.make_optimizer(model, Optim(lr=0.01)), Tally(CPU)
    share = slice(
        distributed.rank() * 4 // distributed.world_size(), (distributed.rank() + 1) * 4 // distributed.world_size()
    )
    for step, whole in enumerate(tiny.RowLoader(12, 4, bad=[7]).epoch(0)):
        batch = Batch(*(getattr(whole, name)[share] for name in Batch.__slots__))
        train_step(
            wrapped,
            optimizer,
            torch.amp.GradScaler("cpu", enabled=False),
            batch,
            step,
            settings,
            tally,
        )
    return {"weight": model[1].weight.tolist(), "tally": distributed.all_sum(tally.read()).tolist()}


def sync_norms(folder=None):
    """Take two steps with synchronised batch norms, then compute precise statistics; return the tensors of both.

    The clips of a rank are its share of the same four.
    """
    torch.manual_seed(0)
    model = norms.synchronize(build_model(replace(tiny.config().model, dropout=0)), CPU).train()
    optimizer, ddp_model = optim.make_optimizer(model, Optim(lr=0.01)), distributed.wrap(model)
    ranks, generator = distributed.world_size(), torch.Generator().manual_seed(1)
    mine = slice(distributed.rank() * 4 // ranks, (distributed.rank() + 1) * 4 // ranks)
    batches = [torch.randn(4, 2, 3, 32, 32, generator=generator) for _ in range(2)]
    label_B = torch.arange(4) % 3
    for clips_BTCHW in batches:
        torch.nn.functional.cross_entropy(ddp_model(clips_BTCHW[mine]), label_B[mine]).backward()
        optimizer.step()
        optimizer.zero_grad()
    stepped = {name: value.tolist() for name, value in model.state_dict().items() if name.startswith(("bn1", "layer4"))}
    norms.make_precise(model, [clips_BTCHW[mine] for clips_BTCHW in batches], nullcontext)
    return {"stepped": stepped, "precise": [model.bn1.running_mean.tolist(), model.bn1.running_var.tolist()]}


def run(folder, *, terminated_before=None, killed_before=None, **train):
    """Run two epochs of ten steps, with signals to rank 1 if wanted; return where it ended, and its weights.

    The network is wide enough for DDP to send its gradients in two buckets.
    """
    train = {"runs": str(folder), "batch": 6, "ema": 0.9, "mixup": 0.2, **train}
    settings = tiny.config(model={"width": 32}, train=train, data={"max_bad_fraction": 0.5})
    loaders = {
        "train": tiny.RowLoader(62, 6 // distributed.world_size(), shard=shard(), bad=[7]),
        "val": tiny.RowLoader(5, 2, shard=shard(), train=False),
    }
    if distributed.rank() == 1:
        tiny.before_step(loaders["train"], terminated_before, tiny.terminate)
        tiny.before_step(loaders["train"], killed_before, lambda batch: os.kill(os.getpid(), signal.SIGKILL))
    finished, under_way = tiny.resume(settings, loaders)
    return {"finished": finished, "step": under_way.step}, tiny.weights_of(under_way)


def run_on_gpus(folder, **runtime):
    """Run with a GPU for each rank; return the final counts, and whether all ranks have the same weights."""
    device = torch.device("cuda", distributed.local_rank())
    settings = tiny.config(
        train={"runs": str(folder), "batch": 8, "ema": 0.9, "epochs": 1}, runtime={"device": "cuda", **runtime}
    )
    loaders = {
        "train": tiny.on_device(tiny.RowLoader(62, 8 // distributed.world_size(), shard=shard()), device),
        "val": tiny.on_device(tiny.RowLoader(5, 2, shard=shard(), train=False), device),
    }
    finished, under_way = tiny.resume(settings, loaders)
    weights = {name: tensor.cpu() for name, tensor in tiny.weights_of(under_way).items() if "running_" not in name}
    of_zero = distributed.from_rank_zero(weights)
    same = all(torch.equal(weights[name], of_zero[name]) for name in weights)
    finite = all(tensor.isfinite().all() for tensor in weights.values())
    return {"finished": finished, "step": under_way.step, "good": distributed.gather(bool(same and finite))}


def in_fp16_on_gpus(folder):
    return run_on_gpus(folder / "fp16", precision="fp16")


def compiled_on_gpus(folder):
    return run_on_gpus(folder / "compiled", precision="bf16", compile="on")


def resumption(folder):
    """Compare a run that a signal to rank 1 stops and that is resumed with an uninterrupted one."""
    norms = {"sync_bn": True, "precise_bn": 2, "precise_bn_every": 1}
    with mock.patch.object(runtime, "peak_memory", lambda device: distributed.rank() + 1):
        _, whole = run(folder / "whole", **norms)
    stopped, _ = run(folder / "stopped", terminated_before=2, **norms)
    resumed, weights = run(folder / "stopped", **norms)
    equal = all(torch.equal(whole[name], weights[name]) for name in whole if is_read(name))
    numbers = [json.loads(line) for line in (folder / "whole" / "tiny" / "metrics.jsonl").open()]
    memories = [line["memory"] for line in numbers if line["_type"] == "train"]
    ends = {"stopped": distributed.gather(stopped), "resumed": resumed, "memories": memories}
    return {**ends, "equal": distributed.gather(equal)}


def from_a_store(folder):
    """Start or resume a run over the list in `place.json` whose videos are in a store; return how and where it ends.

    It retries for a moment only, and not for a minute, and requests few clips of the epochs after its only one.
    """
    place = json.loads((folder / "place.json").read_text())
    faults.PAUSES, feeder.CLIPS_AHEAD = (0.01,) * 3, 32
    data = {"source": "video", "train": place["list"], "root": place["root"], "decoder": "pyav"}
    train = {"runs": str(folder / place["run"]), "epochs": 1, "batch": 2 * distributed.world_size()}
    settings = tiny.config(data=data, train=train, runtime={"threads": 1})
    with closing(build_loader(settings, "train", shard())) as loader:
        reason = None
        try:
            _, under_way = tiny.resume(settings, {"train": loader, "val": None})
        except StorageFault as fault:
            reason = fault.strerror
    saved = [int(path.stem.rpartition("-")[2]) for path in (folder / place["run"]).rglob("step-*.pt")]
    weights = {} if reason else {name: tensor.tolist() for name, tensor in tiny.weights_of(under_way).items()}
    return {"reasons": distributed.gather(reason), "step": max(saved), "weights": weights}


def restart(folder):
    """Kill rank 1 at step 13 of 20 in the first attempt; the second resumes after step 10 by itself."""
    if distributed.restarts() == 0:
        run(folder / "stopped", killed_before=12)
    settings, weights = run(folder / "stopped")
    _, whole = run(folder / "whole")
    equal = all(torch.equal(whole[name], weights[name]) for name in whole if is_read(name))
    return {"restarts": distributed.restarts(), "step": settings["step"], "equal": distributed.gather(equal)}


def is_read(name):
    """Return True if a run reads this tensor of this rank: it uses the batch norms of rank 0 alone."""
    return distributed.rank() == 0 or name.startswith("average.") or "running_" not in name


def main(folder, *names):
    torch.set_num_threads(1)
    with distributed.processes("cuda" if any("gpu" in name for name in names) else "cpu", 300):
        found = {name: globals()[name](folder) for name in names}
        if distributed.rank() == 0:
            (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
