"""TSM and TSN: a 2-D network applied to every frame of a clip, and the frames' answers averaged.

Owns consensus and head. `backbones` decides where a TSM shifts, `shifted` how.

Shapes: B clips or videos, V views of a video, T frames, N = B * T, C channels, H W pixels, K classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import Model
from models.backbones import build_parts


class Recognizer(nn.Module):
    """clips_BTCHW -> logits_BK, or clips_BVTCHW -> logits_BVK; its state_dict keys are torchvision's.

    Raises ValueError for another rank than 5 or 6, and where a TSM is given another number of frames than it was
    built for. A TSN and a causal TSM take any number of frames.
    """

    def __init__(self, settings: Model):
        super().__init__()
        self.settings = settings
        parts = build_parts(settings)
        *self.trunk, self.head = parts  # names, in the order of their use
        for name, part in parts.items():
            self.add_module(name, part)
        self.frozen_norms: list[nn.Module] = []
        self.across_frames = [part for part in self.modules() if hasattr(part, "frames")]
        (classifier,) = (part for part in parts[self.head].modules() if isinstance(part, nn.Linear))
        nn.init.normal_(classifier.weight, std=settings.fc_std)
        nn.init.zeros_(classifier.bias)

    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim == 6:
            return self(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        if self.settings.consensus == "features":
            return self._classify(self._features(clips).mean(1))
        return self.frame_logits(clips).mean(1)

    def freeze_norms(self) -> None:
        """From now on leave the statistics, weight and bias of all batch norms but the first as they are, in training.

        As MIT's `partialbn`, which is for fine-tuning on few videos.
        """
        _, *self.frozen_norms = (part for part in self.modules() if isinstance(part, nn.BatchNorm2d))
        for norm in self.frozen_norms:
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Recognizer":
        super().train(mode)
        for norm in self.frozen_norms:
            norm.eval()
        return self

    def frame_logits(self, clips_BTCHW: Tensor) -> Tensor:
        """What the network says of each frame, having seen what it sees of the others: logits_BTK."""
        return self._classify(self._features(clips_BTCHW))

    def _features(self, clips_BTCHW: Tensor) -> Tensor:
        """Features_BTC of each frame, averaged over H and W."""
        self._check(clips_BTCHW)
        for part in self.across_frames:
            part.frames = clips_BTCHW.shape[1]  # merged into N, it cannot be told from there
        x_NCHW = clips_BTCHW.flatten(0, 1)  # a view: clips in NHWC memory become channels_last frames
        for name in self.trunk:
            x_NCHW = getattr(self, name)(x_NCHW)
        return x_NCHW.mean((2, 3)).unflatten(0, clips_BTCHW.shape[:2])

    def _classify(self, features: Tensor) -> Tensor:
        """Logits of features_BTC or features_BC; each vector has a dropout of its own."""
        dropped = F.dropout(features, self.settings.dropout, self.training)
        return getattr(self, self.head)(dropped)

    def _check(self, clips: Tensor) -> None:
        if clips.ndim != 5:
            raise ValueError(f"clips of shape {tuple(clips.shape)} are neither B T C H W nor B V T C H W")
        if not self.settings.any_frames and clips.shape[1] != self.settings.frames:
            raise ValueError(
                f"clips have {clips.shape[1]} frames, but this TSM shifts over {self.settings.frames}; "
                f"set model.frames={clips.shape[1]} or feed clips of {self.settings.frames} frames"
            )


def build_model(settings: Model) -> Recognizer:
    """The network that the recipe asks for, with random weights; `weights.load_pretrained` gives it better ones.

    Raises ConfigError for a form of the shift that the network cannot have, and for one that would shift nothing.
    """
    return Recognizer(settings)
