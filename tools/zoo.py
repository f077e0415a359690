"""List published weights by name, and download them.

    python tools/zoo.py [WORD ...]          # the entries that contain all words, such as `tsm k400 mit`
    python tools/zoo.py --get NAME          # download a file, and print its path
    python tools/zoo.py --document          # print docs/zoo.md

`--weights zoo:NAME` and `model.pretrained=zoo:NAME` of the other programs download what they need. Exit code 2 for user
errors, and if no entry contains the words.
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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from configs import cli, overridden

if TYPE_CHECKING:
    from models.weights.zoo import Entry

PREFACE = """# Zoo

Written by `python tools/zoo.py --document > docs/zoo.md` from `models/weights/zoo.jsonl`; a test keeps it true.

Published weights by name. Programs accept such a name in place of a file of weights. The file is downloaded at its
first use, continued after an interruption, and verified at each use:

```
python eval.py zoo:tsm_r50_k400_8f_mit data.test=val.list
python tools/predict.py video.mp4 --weights zoo:tsm_r50_k400_8f_mmaction2
python tools/export.py zoo:tsm_r50_k400_8f_mit --format onnx --out tsm.onnx
python train.py --config finetune.yaml data.train=my_videos/ --weights zoo:tsm_r50_k400_8f_mit
python train.py --config tsm_ucf101_nhwc.yaml model.pretrained=zoo:tsm_r50_k400_8f_mit
```

`python tools/zoo.py tsm k400` lists the entries that contain both words. The files go to
`~/.cache/torch/hub/checkpoints` (`$TORCH_HOME/hub/checkpoints`), where torchvision and mmaction2 look as well. Without
a network, download a file by the link in its row and put it there.

The files keep the format of their publishers. Each entry has the settings of its network (recipe, frames, shift
division, average over views), so no `--config` is needed.

The files contain no class names. For Kinetics-400, the names are known for mmaction2 and PaddleVideo: both number the
classes alphabetically (`parse_file_list.py` of mmaction2 1.2.0, `Kinetics-400_label_list.txt` of ppvideo 2.3.1), and
torchvision contains the names. Other networks show numbers unless `data.class_names=FILE` names a file:

- Kinetics-400 by MIT: its `kinetics_label_map.txt`. It was not available here, so its order is unknown.
- Something-Something V1 by MIT: the names of `something-something-v1-labels.csv`, sorted (`gen_label_sthv1.py`).
- Something-Something V1 and Jester by mmaction2: `something-something-v1-labels.csv` and `jester-v1-labels.csv`, whose
  order it keeps. These two are needed for evaluation, too: without them, lists are numbered alphabetically.
- Something-Something V2: `something-something-v2-labels.json`. UCF101: `classInd.txt`. HMDB51: the names of
  its folders, sorted.

Addresses, accuracies and digests were copied from the projects' pages: mmaction2 of October 2023, PaddleVideo of March
2024, MIT's of July 2024. **None of these files has been downloaded or evaluated in this project**; the loading of each
format is tested with generated files of that format ([weights.md](weights.md)). A digest is the beginning of the
sha256, if the publisher gives one in the name of the file. For other files, the digest of the first download is stored
and verified later. Accuracies are the published top-1 in percent, with the protocol in the row
([evaluate.md](evaluate.md)).

Not included are optical flow, other backbones, mmaction2's non-local networks in other modes, and checkpoints for
datasets without a recipe here.
"""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.Parser(prog="zoo.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="list the entries that contain all of these")
    parser.add_argument("--get", metavar="NAME", help="download a file, and print its path")
    parser.add_argument("--document", action="store_true", help="print docs/zoo.md")
    return parser.parse_args(words)


def run(args: argparse.Namespace) -> int:
    """List, download or document."""
    from models.weights import zoo

    if args.get:
        print(zoo.local(zoo.PREFIX + args.get.removeprefix(zoo.PREFIX)))
    elif args.document:
        print(document(list(zoo.entries().values())), end="")
    else:
        words = [word.lower() for word in args.words]
        found = [entry for entry in zoo.entries().values() if all(word in line(entry).lower() for word in words)]
        for entry in found:
            print(line(entry))
        if not found:
            print(f"zoo.py: no entry holds {' and '.join(args.words)}; without a word all are listed", file=sys.stderr)
        return 0 if found else 2
    return 0


def line(entry: Entry) -> str:
    """Describe an entry in a line: name, origin, accuracy, and a mark if it has been downloaded."""
    if not entry.url:
        return f"{entry.name:36} {entry.data:24} not yet trained"
    here = "  (downloaded)" if entry.path.exists() else ""
    accuracy = f"{entry.top1:.2f} %" if entry.top1 else ""
    return f"{entry.name:36} {entry.data:24} {entry.source:14} {accuracy:8} {entry.protocol}{here}"


def document(entries: list[Entry]) -> str:
    """Return docs/zoo.md."""
    sections = [PREFACE]
    for data in dict.fromkeys(entry.data for entry in entries):
        rows = "\n".join(_rows([entry for entry in entries if entry.data == data]))
        sections.append(f"## {data}\n\n{rows}\n")
    return "\n".join(sections)


def _rows(entries: list[Entry]) -> Iterator[str]:
    """Yield the table of one data set."""
    if not entries[0].recipe:
        yield "Initial weights for training, for `model.pretrained`.\n"
        yield "| name | published by | top-1 | backbone | digest | file |"
        yield "|---|---|--:|---|---|---|"
        for entry in entries:
            backbone = overridden(entry.settings)["model.backbone"]
            yield f"| `{entry.name}` | {entry.source} | {_top1(entry)} | `{backbone}` | {_file(entry)} |"
        return
    yield "| name | published by | top-1 | protocol | classes | frames | shift | recipe | digest | file |"
    yield "|---|---|--:|---|--:|--:|--:|---|---|---|"
    for entry in entries:
        model = entry.config().model
        shift = f"1/{model.shift_div}" if model.name == "tsm" else "none"
        protocol = f"`{entry.protocol}`" if entry.protocol.startswith("--") else entry.protocol
        recipe = " ".join([entry.recipe, *entry.settings])
        yield (
            f"| `{entry.name}` | {entry.source} | {_top1(entry)} | {protocol} | {model.num_classes} | {model.frames} "
            f"| {shift} | `{recipe}` | {_file(entry)} |"
        )


def _top1(entry: Entry) -> str:
    return f"{entry.top1:g}" if entry.top1 else ("" if entry.url else "not yet trained")


def _file(entry: Entry) -> str:
    """Return the cells of the digest and of the file."""
    if not entry.url:
        return " | "
    digest = f"`{entry.sha256}`" if entry.sha256 else "none"
    file = "from torchvision" if entry.source == "torchvision" else f"[{entry.path.suffix.lstrip('.')}]({entry.url})"
    return f"{digest} | {file}"


def main() -> int:
    exits.exit_quietly_until_started()
    args = arguments()
    from engine import program

    return program.run("zoo.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
