"""Run a causal TSM on streams: one frame in, its logits out, with caches that carry the state to the next frame.

In a clip, a shifted convolution reads channels of the previous frame; here it reads them from a cache. The caches are
inputs and outputs of the call and contain all state, so a `Streaming` can be exported: it adds only slices and
concatenations to the network.

Shapes: B streams in parallel, C channels, H W pixels, K classes.
"""

import copy

import torch
from torch import Tensor, nn

from configs import ConfigError
from models.recognizer import Recognizer
from models.shift.conv import ShiftedConv2d


class Streaming(nn.Module):
    """A causal TSM that processes one frame at a time: (frame_BCHW, *caches) -> (logits_BK, *caches for the next
    frame).

    The logits equal those of `model.frame_logits` for the last frame of the stream so far, which may have any length. A
    cache [B, fold, H, W] has the channels that one shifted convolution passes to the next frame; caches are in the
    order of the layers. Without caches, the frame is the first of its stream.

    Not thread-safe: the object stores the caches during a call. Use one object per thread.

    Uses a copy of `model`, in evaluation mode. Raises ConfigError if the network is not a causal TSM, and ValueError
    for a wrong number of caches. Source: Lin et al., arXiv 1811.08383, the online model.
    """

    def __init__(self, model: Recognizer):
        super().__init__()
        if not model.settings.causal:
            raise ConfigError(
                f"model.causal: this {model.settings.name} needs whole clips, so it cannot run on a stream; "
                "train a network with model.causal=true"
            )
        self.network = copy.deepcopy(model)
        self._cache = _CachedShift()
        self._shifted = [part for part in self.network.modules() if isinstance(part, ShiftedConv2d)]
        for conv in self._shifted:
            conv.form = self._cache
        self.eval()

    def forward(self, frame_BCHW: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        if caches and len(caches) != len(self._shifted):
            raise ValueError(f"{len(caches)} caches are given, but this network has {len(self._shifted)}")
        self._cache.load(caches)
        logits_B1K = self.network.frame_logits(frame_BCHW.unsqueeze(1))
        return logits_B1K.squeeze(1), *self._cache.take()

    def initial_caches(self, batch: int, size: int) -> tuple[Tensor, ...]:
        """Return zero caches, the start of `batch` streams of `size` x `size` px."""
        stem = next(self.parameters())
        shapes_only = copy.deepcopy(self).to("meta")
        _, *caches = shapes_only(torch.empty(batch, 3, size, size, dtype=stem.dtype, device="meta"))
        channels_last = stem.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return tuple(torch.zeros_like(cache, device=stem.device, memory_format=layout) for cache in caches)

    def cache_bytes(self, size: int) -> int:
        """Return the bytes of all caches of one stream of `size` x `size` px, in the precision of the weights."""
        return sum(cache.nbytes for cache in self.initial_caches(1, size))


class _CachedShift:
    """A form of the shift that reads the previous frame's channels from a cache and stores those of this frame."""

    _stored: list[Tensor]

    def load(self, caches: tuple[Tensor, ...]) -> None:
        self._previous, self._stored = caches, []

    def take(self) -> list[Tensor]:
        stored = self._stored
        self.load(())  # keep no reference to device memory or to an exporter's tensors
        return stored

    def __call__(self, conv: ShiftedConv2d, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        now_BCHW = x_BCHW[:, : conv.before]
        past_BCHW = self._previous[len(self._stored)] if self._previous else torch.zeros_like(now_BCHW)
        self._stored.append(now_BCHW.clone())  # a slice would keep all of x alive
        return conv.convolve(torch.cat((past_BCHW, x_BCHW[:, conv.before :]), 1)), x_BCHW
