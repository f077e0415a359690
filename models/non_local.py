"""The non-local block: every position of every frame of a clip takes from all positions of all its frames.

Shapes: N = B * T frames of B clips, C channels, H W pixels; L = T * H * W positions of a clip.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class NonLocal(nn.Module):
    """features_NCHW -> features_NCHW of clips of `frames` frames; a new block changes nothing.

    MIT's block, after Wang et al., arXiv 1711.07971: embedded Gaussian, half of the channels inside, and what is taken
    from pooled 2x2. Its parameters have MIT's names, and MIT's shapes without the last dimension: convolutions of 1x1x1
    need not know that frames belong together.
    """

    def __init__(self, channels: int, frames: int):
        super().__init__()
        inner = channels // 2
        self.frames = frames
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.g = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        theta_B1LC, phi_B1LC, g_B1LC = map(self._positions, (self.theta(x_NCHW), self.phi(x_NCHW), self.g(x_NCHW)))
        # Weights are softmax(theta phi^T), not divided by sqrt(C); never all in memory at once where a kernel can.
        taken_B1LC = F.scaled_dot_product_attention(theta_B1LC, phi_B1LC, g_B1LC, scale=1.0)
        # Not len(x_NCHW), which would make an exported network one for that many clips.
        taken_NCHW = taken_B1LC.reshape(x_NCHW.shape[0], *x_NCHW.shape[2:], -1).permute(0, 3, 1, 2)
        return x_NCHW + self.W(taken_NCHW)

    def _positions(self, x_NCHW: Tensor) -> Tensor:
        """The positions of each clip in a row, [B, 1, L, C]: a view of channels_last frames."""
        x_BTHWC = x_NCHW.permute(0, 2, 3, 1).unflatten(0, (-1, self.frames))
        return x_BTHWC.flatten(1, 3).unsqueeze(1)
