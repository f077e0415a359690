"""Small files that declare, or unpack to, far more than they contain: refused quickly and in little memory."""

import io
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch

from tests.support.paths import ROOT

BIG = pickle.dumps(2**36, 2)[2:-1]  # the opcode of an integer
HARMLESS = {("laughs.pt", "0"), ("deep.pt", "0")}  # harmless until the result is traversed
OPEN = """
import resource, sys, time
from pathlib import Path
from configs.schema import Model
from engine.evaluation import scores
from engine.inference.backends import open_pt2
from engine.runs import checkpoint
from models import build_model, load_weights, read_file

model = build_model(Model(backbone="resnet18", width=8, num_classes=3))
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30,) * 2)
for path in map(Path, sys.argv[1:]):
    opening = [read_file, lambda path: load_weights(model, path), lambda path: open_pt2(path, "cpu"), scores.load]
    for number, open_file in enumerate(opening):
        start = time.process_time()
        try:
            open_file(path)
            said = "LOADED"
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)}"
        print(path.name, number, round(time.process_time() - start, 2), repr(said), sep="\\t", flush=True)
"""


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Return a checkpoint of four numbers with other bytes in its entries."""
    plain = io.BytesIO()
    torch.save({"model": {"conv1.weight": torch.zeros(4)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, change(entry.filename, source.read(entry)))


def in_pickle(change):
    return lambda name, content: change(content) if name.endswith("data.pkl") else content


def write_bombs(folder):
    """Write checkpoints that compress, declare large storages or tensors, nest without end, or refer to themselves."""
    grown = lambda name, content: bytes(2**28) if "/data/" in name else content  # noqa: E731
    rewritten(folder / "packed.pt", grown, zipfile.ZIP_DEFLATED)
    rewritten(folder / "storage.pt", in_pickle(lambda content: content.replace(b"K\x04", BIG)))
    rewritten(folder / "tensor.pt", in_pickle(lambda content: BIG.join(content.rsplit(b"K\x04", 1))))
    deep = b"\x80\x02}(X\x05\x00\x00\x00model" + b"(" * 100_000 + b"K\x01" + b"t" * 100_000 + b"u."
    rewritten(folder / "deep.pt", in_pickle(lambda _: deep))
    laughs: list = [torch.zeros(1)]
    for _ in range(12):
        laughs = [laughs] * 10
    torch.save({"model": laughs, "state_dict": laughs, "config": laughs, "class_names": laughs}, folder / "laughs.pt")
    (folder / "text.pt").write_text("404 not found\n" * 100)
    legacy = io.BytesIO()
    torch.save({"model": {"conv1.weight": torch.zeros(4)}}, legacy, _use_new_zipfile_serialization=False)
    (folder / "legacy.pt").write_bytes(legacy.getvalue().replace(b"K\x04", BIG))


@pytest.mark.slow
def test_decompression_bombs_are_refused_quickly_and_with_little_memory(tmp_path):
    write_bombs(tmp_path)
    files = sorted(tmp_path.glob("*.pt"))
    command = [sys.executable, "-c", OPEN, *map(str, files)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    answers = [line.split("\t") for line in ended.stdout.splitlines()]
    assert ended.returncode == 0 and len(answers) == 4 * len(files), ended.stderr[-2000:]
    for name, number, seconds, said in answers:
        assert float(seconds) < 3, (name, number, seconds)
        kind = said.strip("'\"").partition(":")[0]
        assert kind in ("CheckpointError", "DataError") or (name, number) in HARMLESS, (name, number, said)
        assert len(said) < 800 and "\\n" not in said, (name, number, said)
