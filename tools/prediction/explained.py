"""Draw explanations: a film strip of the clip with its heat map, and a copy of the video with the heat map.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image

from dali_pipes import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video import times
from engine.inference.explain import Explanation, check, explain
from engine.inference.network import Network
from engine.outputs import Outputs
from tools.prediction.overlay import Caption, free_target, make_folder, write

STRONGEST = 0.65  # opacity of the maximum heat
GAP, BAR = 2, 12  # pixels between frames; height of the bars that show each frame's share
COLOURS = colormaps["inferno"]


class ExplainedVideos:
    """Writes NAME.explained.png and NAME.explained.mp4 into a folder. Raises ConfigError if that is not possible."""

    def __init__(self, folder: Path, network: Network, outputs: Outputs):
        check(network)
        make_folder(folder, "--explain")
        self.folder, self.network, self.outputs = folder, network, outputs
        self._taken: set[Path] = set()

    def write(self, catalog: Catalog, row: int, answer: dict) -> dict:
        """Explain the top class of a video; return the addition to its record: `explained`, or `explained_error`."""
        video = catalog.video(row)
        best = max(answer.get("segments") or answer["top"], key=lambda guess: guess["probability"])
        if best["label"] < 0:
            return {"explained_error": "no class reaches --min-score"}
        target = free_target(self.folder, Path(video.path).stem, ".explained.png", self._taken, self.outputs)
        try:
            found = explain(self.network, catalog, row, best["label"])
            with self.outputs.replacing(target, "wb") as file:
                film_strip(found).save(file, "png")
            caption = Caption(0, f"{best['name']}  {100 * best['probability']:.0f} %")
            second_T = times.frame_times(video)[found.frames_T]
            side = min(video.width, video.height) * self.network.info.config.eval_size
            crop = round(side / self.network.info.config.eval.short_side)
            write(video, target.with_suffix(".mp4"), [caption], self.outputs, draw=heat_drawer(found, second_T, crop))
        except (DataError, OSError) as error:
            return {"explained_error": str(error)}
        shares = [round(float(share), 6) for share in found.weight_T]
        about = {"label": found.label, "frames": found.frames_T.tolist(), "frame_shares": shares}
        return {"explained": {"strip": str(target), "video": str(target.with_suffix(".mp4")), **about}}


def film_strip(found: Explanation) -> Image.Image:
    """Draw the frames in a row, below them the frames with heat maps, and a bar for each frame's share of the heat."""
    frames, height, width, _ = found.pictures_THWC.shape
    strip = Image.new("RGB", (frames * (width + GAP) - GAP, 2 * height + GAP + BAR), "white")
    largest = found.weight_T.max()
    for place, (picture_HWC, heat_HW) in enumerate(zip(found.pictures_THWC, found.heat_THW, strict=True)):
        left = place * (width + GAP)
        strip.paste(Image.fromarray(picture_HWC), (left, 0))
        strip.paste(Image.fromarray(with_heat(picture_HWC, heat_HW)), (left, height + GAP))
        bar = Image.new("RGB", (max(1, round(width * found.weight_T[place] / largest)), BAR - GAP), (220, 90, 30))
        strip.paste(bar, (left, 2 * height + 2 * GAP))
    return strip


def with_heat(picture_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Return a picture with the heat map on it; more heat is more opaque."""
    opacity_HW1 = STRONGEST * heat_HW[..., None]
    painted_HWC = (1 - opacity_HW1) * picture_HWC + opacity_HW1 * 255 * COLOURS(heat_HW)[..., :3]
    return painted_HWC.round().astype(np.uint8)


def heat_drawer(found: Explanation, second_T: np.ndarray, crop: int) -> Callable[[np.ndarray, float], np.ndarray]:
    """Return a function that draws the heat map of the nearest explained frame on the centre of a picture.

    `crop` is the side of the network's crop in the pixels of the video.
    """
    middles = ((second_T[1:] + second_T[:-1]) / 2).tolist()

    def draw(picture_HWC: np.ndarray, second: float) -> np.ndarray:
        height, width, _ = picture_HWC.shape
        side = min(crop, height, width)
        top, left = (height - side) // 2, (width - side) // 2
        heat_HW = np.asarray(Image.fromarray(found.heat_THW[bisect_right(middles, second)]).resize((side, side)))
        painted_HWC = picture_HWC.copy()
        place = np.s_[top : top + side, left : left + side]
        painted_HWC[place] = with_heat(picture_HWC[place], heat_HW.clip(0, 1))
        return painted_HWC

    return draw
