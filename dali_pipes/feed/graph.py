"""The DALI graph, read top to bottom: decode, take each view's frames, crop and resize, mirror and normalise.

The graph draws nothing at random and knows nothing of files: every decision arrives as data from `source`, so training
and evaluation, CPU and GPU differ in what is fed and where it runs, never in the graph. DALI writes F for the frames
axis that the rest of the project calls T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

Head = Literal["nvdec", "dali_cpu", "pyav", "jpeg"]


def decode(head: Head, inputs: list[DataNode], device: str) -> DataNode:
    """The wanted frames as uint8 RGB, UHWC, on `device`. `inputs` are those that only this head takes.

    `pyav`: the source has decoded them already. `dali_cpu`, `nvdec`: the bytes of a cut file, and the positions of its
    wanted frames, ascending and without repeats: DALI starts over at every repeat. `jpeg`: the bytes of one picture,
    which DALI's image decoder turns into a video of one frame; on a GPU with its JPEG engines. No thread is pinned: to
    know which cores are near a GPU DALI asks NVML, and gives up where a container has that in part only.
    """
    if head == "jpeg":
        (picture,) = inputs
        where = "mixed" if device == "gpu" else "cpu"
        frame_HWC = fn.decoders.image(picture, device=where, adjust_orientation=False, affine=False)
        return fn.expand_dims(frame_HWC, axes=0, new_axis_names="F")
    if head == "pyav":
        (frames,) = inputs
        return frames.gpu() if device == "gpu" else frames
    encoded, position_U = inputs
    frames = fn.decoders.video(
        encoded, frames=position_U, pad_mode="edge", device="mixed" if head == "nvdec" else "cpu", affine=False
    )
    return frames.gpu() if device == "gpu" and head == "dali_cpu" else frames


@pipeline_def
def clip_graph(
    source: Callable[[], tuple],
    *,
    head: Head,
    device: Literal["cpu", "gpu"],
    views: int,
    size: int,
    antialias: bool,
    mean: Sequence[float],
    std: Sequence[float],
    half: bool,
) -> DataNode:
    """Clips [V, T, size, size, 3], fp16 or fp32, normalised by `mean` and `std` of pictures in [0, 1].

    `source()` returns one batch as lists, per video: int32 [V, T] which of the decoded frames each view shows, float32
    [V, 4] boxes (left, top, right, bottom in stored pixels), int32 [V] mirror flags; then, for `pyav`, the decoded
    frames, uint8 UHWC; for `jpeg` the bytes of a picture, uint8; for the other heads the bytes of a cut file, uint8,
    and int32 [U] positions of the wanted frames in it. It raises StopIteration at the end of an epoch. On a CPU the
    arrays are used where they are: they must stay until their batch has come out.
    """
    encoded = (types.UINT8, 1, "")
    what_to_decode = {"pyav": [(types.UINT8, 4, "FHWC")], "jpeg": [encoded]}.get(head, [encoded, (types.INT32, 1, "")])
    inputs = [(types.INT32, 2, ""), (types.FLOAT, 2, ""), (types.INT32, 1, ""), *what_to_decode]
    dtypes, ndims, layouts = map(list, zip(*inputs, strict=True))
    order_VT, box_V4, mirror_V, *video = fn.external_source(
        source=source,
        num_outputs=len(dtypes),
        batch=True,
        dtype=dtypes,
        ndim=ndims,
        layout=layouts,
        no_copy=device == "cpu",  # to a GPU memory goes faster from DALI's own
    )
    video_UHWC = decode(head, video, device)

    def clip(view: int) -> DataNode:
        frames_THWC = fn.sequence_rearrange(video_UHWC, new_order=order_VT[view])
        left, top, right, bottom = (box_V4[view, side] for side in range(4))
        frames_THWC = fn.resize(  # crop and resize are one resampling: a box has fractions of pixels, and none is lost
            frames_THWC,
            roi_start=fn.stack(top, left),
            roi_end=fn.stack(bottom, right),
            size=[size, size],
            interp_type=types.INTERP_LINEAR,
            antialias=antialias,
        )
        return fn.crop_mirror_normalize(
            frames_THWC,
            mirror=mirror_V[view],
            mean=[255 * m for m in mean],
            std=[255 * s for s in std],
            dtype=types.FLOAT16 if half else types.FLOAT,
            output_layout="FHWC",
        )

    if views == 1:
        return fn.expand_dims(clip(0), axes=0)  # what stack gives, without its copy
    return fn.stack(*(clip(view) for view in range(views)))
