"""The examples of docs/api.md run."""

import re

import pytest
import torch

import configs
from models import build_model
from tests.support import exporting, tiny
from tests.support.paths import ROOT
from tests.support.videos import write_video

TEXT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n+```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
SEEN = {
    "A loader": r"Batch\(2 B x 1 V x 8 T x 3 C x 224 H x 224 W, \w+ on cpu, labels \[[01], [01]\], rows \[\d, \d\]\)\n",
    "A prediction": r"(left|a \"quoted\" one|économiser) \d+\.\d %",
    "A stream": r"0\.0 [012]\n0\.0\d+ [012]",
}
SLOW = ["An exported network"]  # half a minute of exporting


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the files that the document names."""
    folder = tmp_path_factory.mktemp("api")
    write_video(folder / "video.mp4", "libx264", 48, gop=12, size=(64, 96))
    (folder / "my.list").write_text("".join(f"video{number}.mp4 {number % 2}\n" for number in range(4)))
    for number in range(4):
        write_video(folder / f"video{number}.mp4", "libx264", 24, gop=12, size=(64, 96))
    exporting.weights_file(folder)
    config = tiny.config(model={"causal": True})
    content = {"model": build_model(config.model).state_dict(), "config": configs.flat(config)}
    torch.save(content, folder / "causal.pt")
    return folder


@pytest.mark.parametrize("title", [pytest.param(t, marks=pytest.mark.slow if t in SLOW else ()) for t in EXAMPLES])
def test_an_example_runs(title, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    if title in SLOW:
        exporting.run(folder / "best.pt", "--format", "onnx", "--out", "best.onnx")
    exec(compile(EXAMPLES[title], "api.md", "exec"), {"__name__": "example"})
    assert re.search(SEEN.get(title, ""), capfd.readouterr().out)


def test_every_kind_of_use_has_an_example_of_few_lines():
    assert {"A loader", "A cut", "A prediction", "An exported network", "A stream"} <= EXAMPLES.keys()
    for title, code in EXAMPLES.items():
        statements = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
        assert len(statements) <= 5, title
