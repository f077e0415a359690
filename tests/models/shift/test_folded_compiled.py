"""The kernels of the folded shift as machine code, compiled without a GPU: no spills, and 16 bytes a move."""

import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.shift import gpu_kernels

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
LAYERS = [(64, 64), (256, 64), (256, 128), (512, 128), (512, 256), (1024, 256), (1024, 512), (2048, 512)]
TENSOR_CORES = {80: r"mma\.sync", 89: r"mma\.sync", 90: r"wgmma\.mma_async", 100: r"tcgen05\.mma", 120: r"mma\.sync"}
SHARED = {
    80: 163,
    89: 99,
    90: 227,
    100: 227,
    120: 99,
}  # KiB of shared memory for a program: A100, L4 and RTX 40, H100, B200, RTX 50


class Recorder:
    """A stand-in for a kernel that keeps its launch arguments."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return self

    def __call__(self, *arguments, num_warps, num_stages, **constants):
        self.arguments, self.constants = arguments, constants
        self.options = {"num_warps": num_warps, "num_stages": num_stages}

    def compiled(self, capability, aligned=True):
        """Compile the kernel as Triton would for these arguments, with addresses that are multiples of 16 or not."""
        names = self.kernel.arg_names
        given = dict(zip(names, self.arguments, strict=False))
        constants = self.constants | {name: None for name, value in given.items() if value is None}
        signature, hints = dict.fromkeys(constants, "constexpr"), {}
        for name in given.keys() - constants.keys():
            value, is_tensor = given[name], isinstance(given[name], torch.Tensor)
            signature[name] = POINTERS[value.dtype] if is_tensor else "i32"
            if aligned if is_tensor else value % 16 == 0:
                hints[(names.index(name),)] = [["tt.divisibility", 16]]
        constants = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(self.kernel, {name: signature[name] for name in names}, constants, hints)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=self.options)


def launched(monkeypatch, channels, filters, dtype, after, before, bias=False, added=True):
    """Return the three kernels as launched for 8 clips of 8 frames of 14 px squares in training."""
    made = []
    monkeypatch.setattr(gpu_kernels, "launcher", lambda kernel, _: made.append(Recorder(kernel)) or made[-1])
    with torch.device("meta"):
        x_NCHW, dy_NOHW = (
            torch.empty(64, width, 14, 14, dtype=dtype).to(memory_format=torch.channels_last)
            for width in (channels, filters)
        )
        weight_OC = torch.empty(filters, channels, dtype=dtype)
        bias_O = torch.empty(filters) if bias else None
        gpu_kernels.forward(x_NCHW, weight_OC, bias_O, 8, after, before)
        gpu_kernels.input_grad(dy_NOHW, weight_OC, x_NCHW if added else None, 8, after, before)
        gpu_kernels.weight_grad(x_NCHW, dy_NOHW, 8, after, before)
    return made


def stack_bytes(binary):
    """Return the bytes of a thread's stack, to which registers spill."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", usage)[1])


def narrow(binary):
    """Return the instructions that move less than 16 bytes between registers or shared memory and the GPU's memory."""
    moves = re.findall(r".*(?:ld\.global|st\.global|cp\.async\.c[ag]).*", binary.asm["ptx"])
    assert moves
    return [move for move in moves if not re.search(r"v4\.b32|cp\.async.*, 0x10", move)]


def check(launch, capability, dtype):
    binary = launch.compiled(capability)
    assert stack_bytes(binary) == 0
    assert narrow(binary) == []
    assert binary.metadata.shared <= SHARED[capability] << 10
    if dtype != torch.float32:
        assert re.search(TENSOR_CORES[capability], binary.asm["ptx"])


@pytest.mark.parametrize("channels, filters", [(64, 64), (256, 128)])
def test_kernels_for_an_h100_use_its_tensor_cores_move_16_bytes_at_once_and_spill_nothing(
    monkeypatch, channels, filters
):
    for launch in launched(monkeypatch, channels, filters, torch.bfloat16, channels // 8, channels // 8):
        check(launch, 90, torch.bfloat16)


def test_a_bias_is_added_in_registers(monkeypatch):
    without, with_bias = (
        launched(monkeypatch, 64, 64, torch.bfloat16, 8, 8, bias)[0].compiled(90) for bias in (False, True)
    )
    stores = [re.findall(r"st\.global\S*", binary.asm["ptx"]) for binary in (without, with_bias)]
    assert stores[0] == stores[1] and stack_bytes(with_bias) == 0


@pytest.mark.slow
@pytest.mark.parametrize("capability, dtype", [*product(TENSOR_CORES, POINTERS)])
def test_kernels_are_good_on_every_gpu_from_ampere_on_at_every_width_of_resnets(monkeypatch, capability, dtype):
    for (channels, filters), causal in product(LAYERS, (False, True)):
        fold = channels // 8
        for launch in launched(monkeypatch, channels, filters, dtype, 0 if causal else fold, fold):
            check(launch, capability, dtype)


def test_addresses_and_folds_that_16_bytes_do_not_divide_are_moved_in_smaller_pieces(monkeypatch):
    forward, *_ = launched(monkeypatch, 64, 64, torch.bfloat16, 8, 8)
    assert narrow(forward.compiled(90, aligned=False))
    for after, before in [(6, 8), (8, 6), (0, 6)]:
        forward, *_ = launched(monkeypatch, 64, 64, torch.bfloat16, after, before)
        assert forward.constants["VECTOR"] == 2
    assert narrow(forward.compiled(90))


def test_rows_times_columns_are_multiplied_in_64_bits(monkeypatch):
    for launch in launched(monkeypatch, 64, 64, torch.bfloat16, 8, 8):
        products = re.findall(r"arith\.muli .*tensor<[0-9x]+x(i\d+)>", launch.compiled(90).asm["ttir"])
        assert set(products) == {"i64"}
