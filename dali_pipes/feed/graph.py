"""The DALI graph, from top to bottom: decode, select each view's frames, crop and resize, mirror, normalise.

The graph has no randomness and does not read files: `source` provides every decision as data. So the graph is the same
for training and evaluation, on CPU and GPU. DALI names the axis of frames F; the rest of the project calls it T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from dali_pipes.feed.decoders import GraphForm

_VIEWS = [(types.INT32, 2, ""), (types.FLOAT, 2, ""), (types.INT32, 1, "")]
_FRAMES = [(types.UINT8, 4, "FHWC")]
_TURN = [(types.BOOL, 0, ""), (types.BOOL, 0, "")]
_COLOURS = [(types.BOOL, 0, ""), (types.FLOAT, 2, "")]
_ENCODED = [(types.BOOL, 0, ""), (types.UINT8, 1, ""), (types.INT32, 1, ""), (types.INT32, 1, "")]


def decode_video(encoded: DataNode, position_U: DataNode, where: Literal["cpu", "mixed"]) -> DataNode:
    """Decode the frames at these positions of cut files to uint8 RGB, UHWC; with NVDEC if `where` is `mixed`.

    Positions are ascending and without repeats: DALI would restart decoding at every repeat. Threads are not pinned:
    for that, DALI queries NVML, and fails in containers with an incomplete NVML.
    """
    return fn.decoders.video(encoded, frames=position_U, pad_mode="edge", device=where, affine=False)


@pipeline_def(enable_conditionals=True)
def clip_graph(
    source: Callable[[], tuple],
    *,
    form: GraphForm,
    device: Literal["cpu", "gpu"],
    views: int,
    size: int,
    antialias: bool,
    mean: Sequence[float],
    std: Sequence[float],
    half: bool,
) -> DataNode:
    """Define the graph of clips [V, T, size, size, 3], fp16 or fp32, normalised by `mean` and `std` (for values in [0,
    1]).

    `source()` returns one batch as lists, per video:

        int32 [V, T]    the decoded frames that each view shows
        float32 [V, 4]  boxes: left, top, right, bottom in stored pixels
        int32 [V]       mirror flags
        uint8 UHWC      the frames that threads have decoded; none if the graph decodes
        bool, bool      only if `turned`: transpose clips, and turn them upside down, before they are mirrored
        bool, [3, 3]    only if `recoloured`: multiply colours by this float32 matrix
        bool            only with a `decoder`, as are the following: the graph is to decode
        uint8 [bytes]   a cut file
        int32 [U]       the positions of the wanted frames in it
        int32 [2]       height and width of its pictures without padding

    It raises StopIteration at the end of an epoch. The arrays are not copied here: they must stay alive until the graph
    has returned their batch.
    """
    order_VT, box_V4, mirror_V, frames, *others = _inputs(source, form)
    turn, others = (others[:2], others[2:]) if form.turned else ([], others)
    colours, video = (others[:2], others[2:]) if form.recoloured else ([], others)
    video_UHWC = join_frames(frames, video, form.decoder, device)

    def clip(view: int) -> DataNode:
        frames_THWC = fn.sequence_rearrange(video_UHWC, new_order=order_VT[view])
        left, top, right, bottom = (box_V4[view, side] for side in range(4))
        frames_THWC = fn.resize(  # crop and resize in one resampling, so fractional boxes are exact
            frames_THWC,
            roi_start=fn.stack(top, left),
            roi_end=fn.stack(bottom, right),
            size=[size, size],
            interp_type=types.INTERP_LINEAR,
            antialias=antialias,
        )
        frames_THWC = _recoloured(frames_THWC, *colours) if colours else frames_THWC
        return fn.crop_mirror_normalize(
            _upright(frames_THWC, *turn) if turn else frames_THWC,
            mirror=mirror_V[view],
            mean=[255 * m for m in mean],
            std=[255 * s for s in std],
            dtype=types.FLOAT16 if half else types.FLOAT,
            output_layout="FHWC",
        )

    if views == 1:
        return fn.expand_dims(clip(0), axes=0)  # the result of stack, without its copy
    return fn.stack(*(clip(view) for view in range(views)))


@do_not_convert
def _inputs(source: Callable[[], tuple], form: GraphForm) -> list[DataNode]:
    """Create the graph's inputs, in the order of the lists of `source`."""
    inputs = [*_VIEWS, *_FRAMES]
    for needed, more in ((form.turned, _TURN), (form.recoloured, _COLOURS), (form.decoder, _ENCODED)):
        inputs += more if needed else []
    dtypes, ndims, layouts = map(list, zip(*inputs, strict=True))
    return fn.external_source(
        source=source, num_outputs=len(dtypes), batch=True, dtype=dtypes, ndim=ndims, layout=layouts, no_copy=True
    )


def join_frames(frames: DataNode, video: list[DataNode], decoder: str, device: str) -> DataNode:
    """Merge the frames decoded by threads with those decoded by the graph: UHWC, on `device`."""
    if not decoder:
        return frames.gpu() if device == "gpu" else frames
    by_graph, encoded, position_U, shown_HW = video
    if by_graph:  # per sample: DALI splits the batch here and merges it below
        padded = decode_video(encoded, position_U, decoder)
        # Remove the padding here and not by the crop box, because the resize filter reads beyond the edge of its box.
        decoded = fn.slice(padded, start=[0, 0], shape=shown_HW, axes=[1, 2])
        video_UHWC = decoded.gpu() if device == "gpu" and decoder == "cpu" else decoded
    else:
        video_UHWC = frames.gpu() if device == "gpu" else frames
    return video_UHWC


def _recoloured(frames_THWC: DataNode, wrong: DataNode, colours_33: DataNode) -> DataNode:
    """Correct the colours of frames that DALI converted with the wrong matrix."""
    if wrong:  # noqa: SIM108 - DALI splits a batch at statements only
        right_THWC = fn.coord_transform(frames_THWC, M=colours_33, dtype=types.UINT8)
    else:
        right_THWC = frames_THWC
    return right_THWC


def _upright(frames_THWC: DataNode, transposed: DataNode, upside_down: DataNode) -> DataNode:
    """Rotate square frames upright, except for the left-right mirroring."""
    if transposed:
        turned_THWC = fn.transpose(frames_THWC, perm=[0, 2, 1, 3], transpose_layout=False, output_layout="FHWC")
    else:
        turned_THWC = frames_THWC
    if upside_down:  # noqa: SIM108 - DALI splits a batch at statements only
        upright_THWC = fn.flip(turned_THWC, horizontal=0, vertical=1)
    else:
        upright_THWC = turned_THWC
    return upright_THWC
