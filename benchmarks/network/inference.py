"""Question 3: what does the shift cost at inference? Batch norms are folded into convolutions, as in exported networks.

Eager, under torch.compile, and as a package of AOTInductor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.measure import summary
from benchmarks.harness.session import Probe
from benchmarks.network.scale import FORMS_MEASURED, Precision, Scale, set_form, use_table
from models import build_model
from tools.exporting.network import ClipNetwork

WAYS = ("eager", "compiled", "aoti")
NETWORKS = ("tsn", "tsn again", "auto", "folded")


def run_section(probe: Probe) -> None:
    scale = probe.scale
    groups = [
        {
            f"inference/{precision}/{way}/{network}": (measure, scale, probe.folder, precision, way, network)
            for network in NETWORKS
        }
        for precision in (scale.precisions[:1] if scale.compiles else scale.precisions)  # to compile takes minutes
        for way in (WAYS if scale.compiles else WAYS[:1])
    ]
    probe.run_alternately(groups, _summary)


def _summary(answers: list[dict]) -> dict:
    found = summary(answers, "ms")
    return found | {"clips_per_s": 1e3 * answers[0]["clips"] / found["ms"]}


def measure(scale: Scale, folder: Path, precision: Precision, way: str, network: str) -> dict:
    """Return the milliseconds per batch of clips."""
    answer = _answerer(scale, folder, precision, way, network.removesuffix(" again"))
    return {"ms": scale.clock.time(answer, scale.repeats), "clips": scale.clips}


@cache
def _answerer(scale: Scale, folder: Path, precision: Precision, way: str, network: str) -> Callable[[], Tensor]:
    """Build a network once, warmed up, on clips that stay in memory."""
    use_table(folder)
    config = scale.config(precision, f"model.name={'tsn' if network == 'tsn' else 'tsm'}")
    model = build_model(config.model)
    if network != "tsn":
        set_form(model, FORMS_MEASURED[network])
    deployed = ClipNetwork(model, config, precision, pixels=False)
    deployed = deployed.to(scale.device).to(memory_format=torch.channels_last).eval()
    shape_BTHWC = (scale.clips, scale.frames, scale.size, scale.size, 3)
    clips_BTCHW = torch.randn(shape_BTHWC, device=scale.device).movedim(-1, 2)
    ways = {
        "eager": lambda: deployed,
        "compiled": lambda: torch.compile(deployed),
        "aoti": lambda: _packaged(deployed, clips_BTCHW, folder / f"{network}.pt2"),
    }
    answer = torch.inference_mode()(partial(ways[way](), clips_BTCHW))
    for _ in range(scale.warmup):
        scale.clock.time(answer)
    return answer


def _packaged(deployed: ClipNetwork, clips_BTCHW: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Compile the network as a package for this batch size only."""
    program = torch.export.export(deployed, (clips_BTCHW,))
    return torch._inductor.aoti_load_package(torch._inductor.aoti_compile_and_package(program, package_path=str(path)))
