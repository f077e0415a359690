"""Triton kernels of the 1x1 convolution with the temporal shift folded in: forward, and the gradients of both inputs.

In NHWC memory the frames of a batch are a matrix of M = N * H * W rows and C columns, and a 1x1 convolution is a matrix
product. The next frame lies H * W rows further down, so the shift is a row offset that depends on the column, and one
comparison of a row's place within its clip tells if that frame exists. Rows are read and written in place: the shift
copies nothing. `folded` makes differentiable operators of the kernels.

Shapes: N = B * T frames, M rows of the matrix, C channels in, O channels out, S parts that M is split into.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from models.shift import measured

PROGRAMS = 264  # minimum number of programs for the weight's gradient: two per multiprocessor of an H100


class Tile(NamedTuple):
    """A kernel's tile: rows and columns of the result per program, and terms that it adds at once."""

    rows: int
    columns: int
    terms: int
    warps: int
    stages: int


class Geometry(NamedTuple):
    """A shift in rows and columns of the matrix."""

    pixels: int  # rows of a frame
    clip: int  # rows of a clip
    after: int  # columns before this one come from the next frame
    moved: int  # columns from there to this one come from the previous frame; the others are unchanged


@triton.jit
def _load(matrix_ptr, row_M, column_N, rows, columns):
    """Load a tile of a row-major matrix; zeros outside."""
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    return tl.load(matrix_ptr + row_M[:, None].to(tl.int64) * columns + column_N[None, :], mask=inside_MN, other=0.0)


@triton.jit
def _offset(channel_C, pixels, after, moved):
    """Return the row offset of a channel's source."""
    return tl.where(channel_C < after, pixels, tl.where(channel_C < moved, -pixels, 0))


@triton.jit
def _load_shifted(x_ptr, row_M, channel_C, rows, channels, pixels, clip, after, moved, VECTOR: tl.constexpr):
    """Load a tile of the shifted frames; zeros beyond the ends of clips."""
    offset_C = _offset(channel_C, pixels, after, moved)
    source_MC = (row_M % clip)[:, None] + offset_C[None, :]
    exists_MC = (row_M < rows)[:, None] & (channel_C < channels)[None, :] & (source_MC >= 0) & (source_MC < clip)
    index_MC = row_M[:, None].to(tl.int64) * channels + (offset_C.to(tl.int64) * channels + channel_C)[None, :]
    index_MC = tl.max_contiguous(tl.multiple_of(index_MC, [1, VECTOR]), [1, VECTOR])
    return tl.load(x_ptr + index_MC, mask=tl.max_constancy(exists_MC, [1, VECTOR]), other=0.0)


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, bias_ptr, y_ptr, rows, channels, filters, pixels, clip, after, moved,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Compute y_MO = shifted x_MC times the transposed weight_OC, plus bias_O if given."""
    tiles = tl.cdiv(filters, COLUMNS)  # neighbouring programs read the same rows, from the cache
    row_M = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    filter_O = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    y_MO = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, channels, TERMS):
        channel_C = start + tl.arange(0, TERMS)
        x_MC = _load_shifted(x_ptr, row_M, channel_C, rows, channels, pixels, clip, after, moved, VECTOR)
        weight_OC = _load(weight_ptr, filter_O, channel_C, filters, channels)
        y_MO = tl.dot(x_MC, tl.trans(weight_OC), y_MO, input_precision="ieee")
    if bias_ptr is not None:
        y_MO += tl.load(bias_ptr + filter_O, mask=filter_O < filters, other=0.0).to(tl.float32)[None, :]
    inside_MO = (row_M < rows)[:, None] & (filter_O < filters)[None, :]
    index_MO = row_M[:, None].to(tl.int64) * filters + filter_O[None, :]
    tl.store(y_ptr + index_MO, y_MO.to(y_ptr.dtype.element_ty), mask=inside_MO)


@triton.jit
def input_grad_kernel(
    dy_ptr, weight_ptr, added_ptr, dx_ptr, rows, channels, filters, pixels, clip, after, moved,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Compute dx_MC = dy_MO times weight_OC, each row stored where the forward pass read it, plus added_MC if given.

    Rows wrap around within a clip: the gradient of a row that was read beyond one end is stored as zeros at the other
    end, in the frame that was never read. So every element is written once, and dx needs no clearing before.
    """
    tiles = tl.cdiv(channels, COLUMNS)
    row_M = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    channel_C = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    dx_MC = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, filters, TERMS):
        filter_O = start + tl.arange(0, TERMS)
        dy_MO = _load(dy_ptr, row_M, filter_O, rows, filters)
        weight_OC = _load(weight_ptr, filter_O, channel_C, filters, channels)
        dx_MC = tl.dot(dy_MO, weight_OC, dx_MC, input_precision="ieee")
    place_M = row_M % clip
    source_MC = place_M[:, None] + _offset(channel_C, pixels, after, moved)[None, :]
    past_MC, before_MC = source_MC >= clip, source_MC < 0
    place_MC = tl.where(past_MC, source_MC - clip, tl.where(before_MC, source_MC + clip, source_MC))
    index_MC = ((row_M - place_M)[:, None] + place_MC).to(tl.int64) * channels + channel_C[None, :]
    index_MC = tl.max_contiguous(tl.multiple_of(index_MC, [1, VECTOR]), [1, VECTOR])
    dx_MC = tl.where(past_MC | before_MC, 0.0, dx_MC)
    inside_MC = (row_M < rows)[:, None] & (channel_C < channels)[None, :]
    if added_ptr is not None:
        dx_MC += tl.load(added_ptr + index_MC, mask=inside_MC, other=0.0).to(tl.float32)
    tl.store(dx_ptr + index_MC, dx_MC.to(dx_ptr.dtype.element_ty), mask=inside_MC)


@triton.jit
def weight_grad_kernel(
    x_ptr, dy_ptr, parts_ptr, rows, channels, filters, pixels, clip, after, moved, rows_of_part,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Compute parts_SOC = the transposed dy_MO times shifted x_MC over each part of the rows; the caller sums them.

    Atomic additions would need no parts, but their order, and so the rounding, would differ from run to run.
    """
    tiles = tl.cdiv(channels, COLUMNS)
    filter_O = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    channel_C = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(1) * rows_of_part  # a multiple of TERMS
    part_OC = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + rows_of_part, rows), TERMS):
        row_M = start + tl.arange(0, TERMS)
        x_MC = _load_shifted(x_ptr, row_M, channel_C, rows, channels, pixels, clip, after, moved, VECTOR)
        dy_MO = _load(dy_ptr, row_M, filter_O, rows, filters)
        part_OC = tl.dot(tl.trans(dy_MO), x_MC, part_OC, input_precision="ieee")
    inside_OC = (filter_O < filters)[:, None] & (channel_C < channels)[None, :]
    index_OC = (tl.program_id(1) * filters + filter_O)[:, None].to(tl.int64) * channels + channel_C[None, :]
    tl.store(parts_ptr + index_OC, part_OC, mask=inside_OC)


def forward(
    x_NCHW: Tensor, weight_OC: Tensor, bias_O: Tensor | None,
    frames: int, after: int, before: int, tile: Tile | None = None,
) -> Tensor:  # fmt: skip
    """Return y_NOHW in the dtype of x_NCHW; both are channels_last. weight_OC has that dtype and is contiguous."""
    count, channels, *size = x_NCHW.shape
    filters, rows = len(weight_OC), count * size[0] * size[1]
    tile = tile or _tile("forward", x_NCHW, channels, filters)
    y_NOHW = _empty(x_NCHW, count, filters, *size)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(filters, tile.columns),)
    launcher(forward_kernel, x_NCHW)[grid](
        x_NCHW, weight_OC, bias_O, y_NOHW, rows, channels, filters, *_geometry(size, frames, after, before),
        ROWS=tile.rows, COLUMNS=tile.columns, TERMS=tile.terms, VECTOR=_vector(x_NCHW, channels, after, before),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return y_NOHW


def input_grad(
    dy_NOHW: Tensor, weight_OC: Tensor, added_NCHW: Tensor | None,
    frames: int, after: int, before: int, tile: Tile | None = None,
) -> Tensor:  # fmt: skip
    """Return dx_NCHW plus added_NCHW in the dtype of dy_NOHW; all are channels_last. weight_OC is contiguous."""
    count, filters, *size = dy_NOHW.shape
    channels, rows = weight_OC.shape[1], count * size[0] * size[1]
    tile = tile or _tile("input_grad", dy_NOHW, channels, filters)
    dx_NCHW = _empty(dy_NOHW, count, channels, *size)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(channels, tile.columns),)
    launcher(input_grad_kernel, dy_NOHW)[grid](
        dy_NOHW, weight_OC, added_NCHW, dx_NCHW, rows, channels, filters, *_geometry(size, frames, after, before),
        ROWS=tile.rows, COLUMNS=tile.columns, TERMS=tile.terms, VECTOR=_vector(dy_NOHW, channels, after, before),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return dx_NCHW


def weight_grad(
    x_NCHW: Tensor, dy_NOHW: Tensor, frames: int, after: int, before: int, tile: Tile | None = None
) -> Tensor:
    """Return dweight_OC in fp32, summed in a fixed order; both inputs are channels_last and of one dtype."""
    count, channels, *size = x_NCHW.shape
    filters, rows = dy_NOHW.shape[1], count * size[0] * size[1]
    tile, tiles, rows_of_part = split(x_NCHW, filters, tile)
    parts = triton.cdiv(rows, rows_of_part)
    parts_SOC = torch.empty(parts, filters, channels, dtype=torch.float32, device=x_NCHW.device)
    launcher(weight_grad_kernel, x_NCHW)[tiles, parts](
        x_NCHW, dy_NOHW, parts_SOC, rows, channels, filters, *_geometry(size, frames, after, before), rows_of_part,
        ROWS=tile.rows, COLUMNS=tile.columns, TERMS=tile.terms, VECTOR=_vector(x_NCHW, channels, after, before),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return parts_SOC.sum(0)


def launcher(kernel: Any, values: Tensor) -> Any:
    """Return the kernel to launch; while a compiler traces, wrapped so that the compiler sees the kernel.

    In eager mode the wrapper would make a new autotuner for every launch, which takes longer than the kernel.
    """
    return kernel if type(values) is Tensor else wrap_triton(kernel)


def split(x_NCHW: Tensor, filters: int, tile: Tile | None = None) -> tuple[Tile, int, int]:
    """Return the tile of a weight's gradient, the number of tiles that cover it, and the rows of a part."""
    channels = x_NCHW.shape[1]
    tile = tile or _tile("weight_grad", x_NCHW, channels, filters)
    tiles = triton.cdiv(filters, tile.rows) * triton.cdiv(channels, tile.columns)
    rows = triton.cdiv(x_NCHW.numel() // channels, triton.cdiv(PROGRAMS, tiles))
    return tile, tiles, triton.cdiv(rows, tile.terms) * tile.terms


def _tile(kernel: str, values: Tensor, channels: int, filters: int) -> Tile:
    """Return the tile that was measured as fastest, or one that covers the result well and spills no registers."""
    row = measured.find(values.device, values.dtype, channels, filters)
    if row and "tiles" in row:
        return Tile(*row["tiles"][kernel])
    rows = _block(filters, values) if kernel == "weight_grad" else 128
    columns = filters if kernel == "forward" else channels
    return Tile(rows, _block(columns, values), _terms(values), warps=8, stages=3)


def _geometry(size: list[int], frames: int, after: int, before: int) -> Geometry:
    pixels = size[0] * size[1]
    return Geometry(pixels, frames * pixels, after, after + before)


def _empty(like: Tensor, count: int, channels: int, height: int, width: int) -> Tensor:
    """Return an empty channels_last tensor. With memory_format=, torch.compile would fill it with zeros."""
    return torch.empty(count, height, width, channels, dtype=like.dtype, device=like.device).permute(0, 3, 1, 2)


def _vector(values: Tensor, channels: int, after: int, before: int) -> int:
    """Return the number of adjacent columns per access: 16 bytes, or fewer if the edge of a fold would split them."""
    return math.gcd(16 // values.element_size(), channels, after, before)


def _block(columns: int, values: Tensor) -> int:
    """Return the power of two that covers `columns`, from 16 (the least for tensor cores) to two cache lines."""
    return min(max(triton.next_power_of_2(columns), 16), 2 * _terms(values))


def _terms(values: Tensor) -> int:
    """Return the number of values in a cache line."""
    return 128 // values.element_size()
