"""Count the cost of the networks: python benchmarks/costs.py prints the table of docs/models.md.

It lists parameters, multiply-adds per clip, and the state of a stream if the network is causal.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":  # before the imports below, which take seconds
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()

import torch

from configs.schema import Model
from models import Streaming, build_model
from models.cost import count_macs, count_parameters

SIZE = 224
BASE = Model(num_classes=400)  # Kinetics-400, as networks are published
NETWORKS: list[dict] = [
    {},
    {"frames": 16},
    {"non_local": True},
    {"backbone": "resnet50_vd", "leaky_slope": 0.01},
    {"backbone": "resnet101"},
    {"backbone": "resnet101", "non_local": True},
    {"backbone": "resnet34"},
    {"backbone": "resnet18"},
    {"backbone": "mobilenet_v2"},
]


def table() -> str:
    """Format a line for each of NETWORKS, in Markdown."""
    lines = ["| settings | parameters, M | GMAC a clip | kept for a stream, kB |", "| --- | ---: | ---: | ---: |"]
    for changes in NETWORKS:
        words = [f"`model.{key}={str(value).lower()}`" for key, value in changes.items()]
        lines.append(" | ".join([f"| {' '.join(words) or 'the defaults'}", *costs(replace(BASE, **changes))]) + " |")
    return "\n".join(lines) + "\n"


def costs(settings: Model) -> list[str]:
    """Return parameters in millions, GMAC per clip, and kilobytes of fp32 caches if any."""
    with torch.device("meta"):
        model = build_model(settings)
        streaming = None if settings.non_local else Streaming(build_model(replace(settings, causal=True)))
    kept = f"{streaming.cache_bytes(SIZE) / 1e3:.0f}" if streaming else ""
    return [f"{count_parameters(model) / 1e6:.2f}", f"{count_macs(model, SIZE) / 1e9:.2f}", kept]


if __name__ == "__main__":
    print(table(), end="")
