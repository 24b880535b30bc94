"""Convolution and max pooling for a single set on a GPU, in Triton.

At batch 1 a layer of ResNet18 has 9 to 1764 output pixels. A library gives each tile of the output to one block, which leaves
most of a GPU idle while a few blocks sum over thousands of inputs. Here the sum is split over blocks too: they leave their
parts in memory, and the last one to be done with a tile adds them up, in their order, so that the same input gives the same
bits. Bias, residual and ReLU follow in the same kernel.
"""

# ruff: noqa: N803, N806  # constants of a kernel are written in capitals

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn


@triton.jit(do_not_specialize=['split'])
def _convolve(
    x,
    weight,
    bias,
    residual,
    y,
    parts,
    arrived,
    split,
    k_of_a_part,
    PIXELS: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    HO: tl.constexpr,
    WO: tl.constexpr,
    C: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    K: tl.constexpr = SIDE * SIDE * C
    tile_n, tile_m, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    top = (m // WO) % HO * STRIDE - PADDING
    left = m % WO * STRIDE - PADDING
    corner = ((m // (WO * HO) * H + top) * W + left) * C
    there = m < PIXELS
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(0, k_of_a_part, BLOCK_K):
        k = part * k_of_a_part + step + tl.arange(0, BLOCK_K)
        row, column = k // (SIDE * C), k // C % SIDE
        inside = there[:, None] & (k < K)[None, :]
        if PADDING:
            h, w = top[:, None] + row[None, :], left[:, None] + column[None, :]
            inside = inside & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        pixels = tl.load(x + corner[:, None] + ((row * W + column) * C + k % C)[None, :], mask=inside, other=0.0)
        weights = tl.load(weight + k[:, None] * OUTPUTS + n[None, :], mask=(k < K)[:, None], other=0.0)
        total = tl.dot(pixels, weights, total, input_precision='ieee')  # no TF32
    at = m[:, None] * OUTPUTS + n[None, :]
    last = part == 0
    if split > 1:
        rows: tl.constexpr = (PIXELS + BLOCK_M - 1) // BLOCK_M * BLOCK_M
        tl.store(parts + part * rows * OUTPUTS + at, total)
        tl.debug_barrier()  # all threads have stored before one of them says so
        counter = arrived + tile_m * tl.num_programs(0) + tile_n
        last = tl.atomic_add(counter, 1, sem='acq_rel') == split - 1
        if last:
            total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
            for other in range(split):
                total += tl.load(parts + other * rows * OUTPUTS + at, cache_modifier='.cg')  # not from this block's cache
            tl.store(counter, 0)
    if last:
        total += tl.load(bias + n)[None, :]
        if ADD:
            total += tl.load(residual + at, mask=there[:, None], other=0.0).to(tl.float32)
        if RELU:
            total = tl.where(total < 0.0, 0.0, total)  # NaN stays
        tl.store(y + at, total.to(y.dtype.element_ty), mask=there[:, None])


@triton.jit
def _pool(
    x,
    y,
    VALUES: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    HO: tl.constexpr,
    WO: tl.constexpr,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c, m = at % C, at // C
    top, left, first_row = (m // WO) % HO * 2 - 1, m % WO * 2 - 1, m // (WO * HO) * H
    largest = tl.full((BLOCK,), float('-inf'), tl.float32)
    for row in tl.static_range(3):
        for column in tl.static_range(3):
            h, w = top + row, left + column
            inside = (h >= 0) & (h < H) & (w >= 0) & (w < W) & (at < VALUES)
            pixel = tl.load(x + ((first_row + h) * W + w) * C + c, mask=inside, other=float('-inf'))
            largest = tl.maximum(largest, pixel.to(tl.float32), propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + at, largest.to(y.dtype.element_ty), mask=at < VALUES)


class _Plan(NamedTuple):
    """How a convolution is cut into blocks."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    split: int
    k_of_a_part: int


_LEAST_K_OF_A_PART = 64


def _plan(pixels: int, outputs: int, inputs: int, dtype: torch.dtype, multiprocessors: int) -> _Plan:
    """As many blocks as the GPU has multiprocessors.

    Of 15 block shapes tried on an H200 these are within 5 % of the best of each layer. Nothing is tried out at run time, where
    a race would give one robot other last bits from day to day.
    """
    if dtype == torch.float32:
        block_m, block_n, block_k, warps = 16, 64, 32, 4
    else:
        block_m, block_n, block_k, warps = 16, 32, 64, 2 if pixels > 64 else 4
    tiles = triton.cdiv(pixels, block_m) * (outputs // block_n)
    split = max(1, min(triton.cdiv(multiprocessors, tiles), inputs // _LEAST_K_OF_A_PART))
    k_of_a_part = triton.cdiv(triton.cdiv(inputs, split), block_k) * block_k
    return _Plan(block_m, block_n, block_k, warps, triton.cdiv(inputs, k_of_a_part), k_of_a_part)


class TritonConvolution(nn.Module):
    """A convolution with its bias, and what follows it, in one kernel. See `resnet.Convolution`."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None
        weight = convolution.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(convolution.bias.detach().float(), requires_grad=False)
        self.side, self.stride = convolution.kernel_size[0], convolution.stride[0]
        self.padding = int(convolution.padding[0])
        self._arrived = torch.zeros(0, dtype=torch.int32)

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = True) -> Tensor:
        """Channels last, [B,C,H,W] to [B,OUTPUTS,HO,WO]."""
        batch, c, h, w = x.shape
        ho, wo = ((side + 2 * self.padding - self.side) // self.stride + 1 for side in (h, w))
        pixels, inputs, outputs = batch * ho * wo, *self.weight.shape
        plan = _plan(pixels, outputs, inputs, x.dtype, _multiprocessors(x.device))
        tiles = triton.cdiv(pixels, plan.block_m), outputs // plan.block_n
        if len(self._arrived) < tiles[0] * tiles[1]:
            self._arrived = torch.zeros(tiles[0] * tiles[1], dtype=torch.int32, device=x.device)
        y = x.new_empty((batch, ho, wo, outputs))
        parts = x.new_empty((plan.split, tiles[0] * plan.block_m, outputs), dtype=torch.float32)
        _convolve[(tiles[1], tiles[0], plan.split)](
            x,
            self.weight,
            self.bias,
            x if residual is None else residual,
            y,
            parts,
            self._arrived,
            plan.split,
            plan.k_of_a_part,
            PIXELS=pixels,
            H=h,
            W=w,
            HO=ho,
            WO=wo,
            C=c,
            OUTPUTS=outputs,
            SIDE=self.side,
            STRIDE=self.stride,
            PADDING=self.padding,
            RELU=relu,
            ADD=residual is not None,
            BLOCK_M=plan.block_m,
            BLOCK_N=plan.block_n,
            BLOCK_K=plan.block_k,
            num_warps=plan.warps,
        )
        return y.permute(0, 3, 1, 2)


def triton_max_pool(x: Tensor) -> Tensor:
    """The largest of each 3x3, every other pixel; channels last, [B,C,H,W] to [B,C,HO,WO]."""
    batch, c, h, w = x.shape
    ho, wo = (h - 1) // 2 + 1, (w - 1) // 2 + 1
    y = x.new_empty((batch, ho, wo, c))
    values, block = y.numel(), 256
    _pool[(triton.cdiv(values, block),)](x, y, VALUES=values, H=h, W=w, HO=ho, WO=wo, C=c, BLOCK=block)
    return y.permute(0, 3, 1, 2)


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 1
