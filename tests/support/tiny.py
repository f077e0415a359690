"""The smallest possible run for tests of training: settings, and a loader whose clips follow from their row."""

import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import torch

import configs
from configs.schema import Clip, Config, Data, Eval, Model, Optim, Runtime, Train
from dali_pipes import device as host
from dali_pipes.batch import Batch, Shard
from dali_pipes.errors import Unreadable
from dali_pipes.lists.formats.annotation import WHOLE
from dali_pipes.lists.rows import Rows
from engine import runtime
from engine.runs.pages import report
from engine.runs.run_folder import RunFolder
from engine.train.run import run
from engine.train.training import build_network
from models import build_model

CONFIG = Config(
    model=Model(backbone="resnet18", width=8, num_classes=3, frames=2, pretrained="none", dropout=0.5),
    data=Data(source="synthetic"),
    clip=Clip(size=16),
    eval=Eval(short_side=16),
    optim=Optim(lr=0.05, milestones=(1,), clip_norm=20.0, fc_lr_mult=(5.0, 10.0)),
    train=Train(name="tiny", epochs=2, batch=4, log_every=2),
    runtime=Runtime(device="cpu", precision="fp32", compile="off"),  # on a GPU, compiling would take minutes
)


def config(**sections) -> Config:
    """Return CONFIG resolved, with some settings replaced: `config(train={"epochs": 1})`."""
    changed = {name: replace(getattr(CONFIG, name), **values) for name, values in sections.items()}
    return runtime.resolve(replace(CONFIG, **changed))


class RowLoader:
    """`dali_pipes.batch.Loader` over `rows` imaginary videos: row r has class r % classes and clips drawn from r.

    `bad` rows are found unreadable when they are read. Training leaves out the tail, evaluation pads it.
    """

    def __init__(self, rows, batch, *, shard=None, train=True, views=1, bad=(), classes=3, frames=2, size=16):
        self.num_rows = self.num_videos = rows
        self.unreadable, self.class_names, self.slow_part = [], (), "the rows"
        self.clip_dtype = torch.float32
        self.epochs = []  # (epoch, start) of each call
        self.rows = Rows(tuple(map(self.path, range(rows))), tuple(row % classes for row in range(rows)))
        self._batch, self._shard, self._train, self._bad, self._classes = (
            batch,
            shard or Shard(),
            train,
            set(bad),
            classes,
        )
        self._shape = (views, frames, 3, size, size)

    def __len__(self):
        share = self._batch * self._shard.count
        return self.num_rows // share if self._train else -(-self.num_rows // share)

    def epoch(self, epoch, start=0):
        self.epochs.append((epoch, start))
        order = self._order(epoch)
        for step in range(start, len(self)):
            first = (step * self._shard.count + self._shard.index) * self._batch
            yield self._read(order[first : first + self._batch])

    def path(self, row):
        return f"{row}.mp4"

    @property
    def decoders(self):
        return {"pyav": self.num_videos - 1, "nvdec": 1}

    def span(self, row):
        return WHOLE

    def close(self):
        pass

    def _order(self, epoch):
        generator = torch.Generator().manual_seed(epoch)
        rows = torch.randperm(self.num_rows, generator=generator) if self._train else torch.arange(self.num_rows)
        return rows.tolist()

    def _read(self, rows):
        known = {entry.row for entry in self.unreadable}
        for row in rows:
            if row in self._bad - known:
                self.unreadable.append(Unreadable(row, self.path(row), "is empty"))
        rows = rows + [-1] * (self._batch - len(rows))
        index_B = torch.tensor([-1 if row in self._bad else row for row in rows])
        label_B = torch.where(index_B < 0, -1, index_B % self._classes)
        return Batch(torch.stack([self._clip(row) for row in rows]), label_B, index_B)

    def _clip(self, row):
        return torch.randn(self._shape, generator=torch.Generator().manual_seed(row + 1)) + row % self._classes


def on_device(loader, device):
    """Return `loader` with its batches on the device; all are copied before the first is used."""
    read_epoch = loader.epoch

    def epoch(number, start=0):
        batches = [
            [part.to(device) for part in (batch.clips_BVTCHW, batch.label_B, batch.index_B)]
            for batch in read_epoch(number, start)
        ]
        return (Batch(*parts) for parts in batches)

    loader.epoch = epoch
    return loader


def resume(settings, loaders, *, pictures=False):
    """Run `train.py --resume` over loaders by split; return (finished, training).

    Uses one thread: threads that wait for each other make a tiny network many times slower on a busy machine. Leaves
    out the `pictures` of the report, which take most of the time.
    """

    def open_loader(config, split, device, class_names=(), before=None):
        return loaders[split]

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(host, "cores_of_rank", lambda: 1))
        if not pictures:
            patches.enter_context(mock.patch.object(report, "write_if_possible"))
            patches.enter_context(mock.patch.object(RunFolder, "send_pictures"))
        return run(settings, resume=True, open_loader=open_loader)


def finished_run(folder, *, epochs=2, **train):
    """Train a run of four steps an epoch that evaluates after each epoch; return it at its end."""
    settings = config(train={"runs": str(folder), "epochs": epochs, **train})
    finished, under_way = resume(settings, {"train": RowLoader(14, 4), "val": RowLoader(5, 4, train=False)})
    assert finished
    return under_way


def save_network(settings, file, **more):
    """Write the weights of a network whose logits differ between videos, with its settings and `more`."""
    torch.manual_seed(1)
    model = build_model(settings.model)
    torch.nn.init.normal_(model.fc.weight)
    torch.save({"model": model.state_dict(), "config": configs.flat(settings), **more}, file)


def initial_weights():
    """Return the weights that a run starts from."""
    settings = config()
    torch.manual_seed(settings.train.seed)
    return build_network(settings, None)[0].state_dict()


def weights_of(under_way):
    """Return all tensors of the model and of its average, if any, and all momenta in one tensor."""
    momenta = [entry["momentum_buffer"].flatten() for entry in under_way.optimizer.state_dict()["state"].values()]
    average = {f"average.{name}": tensor for name, tensor in under_way.eval_model.state_dict().items()}
    return under_way.model.state_dict() | average | {"momentum": torch.cat(momenta)}


def terminate(batch):
    """Send the signal by which a scheduler stops a run."""
    os.kill(os.getpid(), signal.SIGTERM)


def before_step(loader, step, act):
    """Return `loader`, which calls `act(batch)` before it gives the batch of that step of the run."""
    read_epoch = loader.epoch

    def epoch(number, start=0):
        for at, batch in enumerate(read_epoch(number, start), number * len(loader) + start):
            if at == step:
                act(batch)
            yield batch

    loader.epoch = epoch
    return loader
