"""A causal TSM over streams: a frame in, what the network says of it out, and what it will remember for the next frame.

Within a clip a shifted convolution reads channels of the frame before; here it takes them from a cache. All state is in
those tensors, which go in and come out, so a `Streaming` can be exported as it is: what it adds to the network are
slices and concatenations. Knows nothing of videos or of files.

Shapes: B streams side by side, C channels, H W pixels, K classes.
"""

import copy

import torch
from torch import Tensor, nn

from configs import ConfigError
from models.recognizer import Recognizer
from models.shift.conv import ShiftedConv2d


class Streaming(nn.Module):
    """(frame_BCHW, *caches) -> (logits_BK, *caches for the next frame), one call at a time.

    The logits are those that `model.frame_logits` gives for the last frame of all that the stream has had, and those
    may be any number. A cache holds the first fold of what a shifted convolution read, [B, fold, H, W]; they are in the
    order in which the network uses them. Without any, the frame is the first of its stream.

    Not for two threads at once: during a call the object itself holds the caches. Give each thread one of its own.

    Works on a copy of `model`, in evaluation mode. Raises ConfigError for a network that is not a causal TSM, and
    ValueError for another number of caches than it has. Source: Lin et al., arXiv 1811.08383, the online model.
    """

    def __init__(self, model: Recognizer):
        super().__init__()
        if not model.settings.causal:
            raise ConfigError(
                f"model.causal: this {model.settings.name} was made for whole clips, and a stream has no end to wait "
                "for; train one with model.causal=true"
            )
        self.network = copy.deepcopy(model)
        self._memory = _Memory()
        self._shifted = [part for part in self.network.modules() if isinstance(part, ShiftedConv2d)]
        for conv in self._shifted:
            conv.form = self._memory
        self.eval()

    def forward(self, frame_BCHW: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        if caches and len(caches) != len(self._shifted):
            raise ValueError(f"{len(caches)} caches are given, but this network has {len(self._shifted)}")
        self._memory.recall(caches)
        logits_B1K = self.network.frame_logits(frame_BCHW.unsqueeze(1))
        return logits_B1K.squeeze(1), *self._memory.take()

    def initial_caches(self, batch: int, size: int) -> tuple[Tensor, ...]:
        """What `batch` streams of `size` px squares start from: zeros, as before the first frame of a clip."""
        stem = next(self.parameters())
        shapes_only = copy.deepcopy(self).to("meta")
        _, *caches = shapes_only(torch.empty(batch, 3, size, size, dtype=stem.dtype, device="meta"))
        channels_last = stem.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return tuple(torch.zeros_like(cache, device=stem.device, memory_format=layout) for cache in caches)

    def cache_bytes(self, size: int) -> int:
        """Bytes that one stream of `size` px squares keeps from frame to frame, in the precision of the weights."""
        return sum(cache.nbytes for cache in self.initial_caches(1, size))


class _Memory:
    """Stands in for the shift: gives the channels of the frame before and keeps those of this one for the next."""

    _kept: list[Tensor]

    def recall(self, caches: tuple[Tensor, ...]) -> None:
        self._before, self._kept = caches, []

    def take(self) -> list[Tensor]:
        kept = self._kept
        self.recall(())  # hold on to nothing: neither to memory of the device nor to what an exporter traced with
        return kept

    def __call__(self, conv: ShiftedConv2d, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        now_BCHW = x_BCHW[:, : conv.before]
        past_BCHW = self._before[len(self._kept)] if self._before else torch.zeros_like(now_BCHW)
        self._kept.append(now_BCHW.clone())  # a slice would keep all of x alive
        return conv.convolve(torch.cat((past_BCHW, x_BCHW[:, conv.before :]), 1)), x_BCHW
